"""`polsess benchmark`: measured costs of models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from polsess.cli.terminal import ExitCode, Failure, Terminal

if TYPE_CHECKING:
    from polsess.benchmark import Result

_Models = Annotated[
    list[str] | None,
    typer.Argument(metavar="[MODEL[:PRESET]]...", help="Registered models [default: all of them]."),
]
_Sources = Annotated[
    list[str] | None,
    typer.Option("-m", "--model", help="Weights of your own, in any supported format. Repeatable."),
]
_Preset = Annotated[str | None, typer.Option("--preset", help="Preset of every MODEL that names none.")]
_Against = Annotated[str | None, typer.Option("--against", hidden=True)]
_Python = Annotated[str | None, typer.Option("--peer-python", hidden=True)]
_USUAL, _QUICK = ("1,4,30", 3, 120.0), ("1,4", 1, 20.0)
"""Lengths of the mixtures, rounds and time limit, in seconds, where the command line does not say."""

_Seconds = Annotated[
    str | None,
    typer.Option(
        "--seconds", help="Lengths of the mixtures in seconds, with commas.", show_default=_USUAL[0]
    ),
]
_Modes = Annotated[
    str, typer.Option("--modes", help="Modes to measure, with commas: inference,training,streaming.")
]
_TrainingSeconds = Annotated[
    float, typer.Option("--training-seconds", help="Length of the mixtures of a training step, in seconds.")
]
_Batch = Annotated[int, typer.Option("--training-batch", min=1, help="Mixtures in a training step.")]
_Push = Annotated[
    float, typer.Option("--push-seconds", help="Length of what a causal network gets at once, in seconds.")
]
_Rounds = Annotated[
    int | None,
    typer.Option(
        "--rounds",
        min=1,
        help="Number of rounds; each measures every model.",
        show_default=str(_USUAL[1]),
    ),
]
_Budget = Annotated[
    float | None,
    typer.Option(
        "--budget-seconds",
        help="Time limit for each model in all rounds, in seconds.",
        show_default=f"{_USUAL[2]:g}",
    ),
]
_Threads = Annotated[int, typer.Option("--threads", min=1, help="Number of threads of torch.")]
_Device = Annotated[str, typer.Option("--device", help="Device to run on: auto, cpu, cuda or mps.")]
_Precision = Annotated[
    Literal["auto", "float32", "bfloat16", "float16"],
    typer.Option(
        "--precision",
        help="Type of the model's products; auto is bfloat16 where device and model are made for it.",
    ),
]
_Allocator = Annotated[
    str, typer.Option("--allocator", help="Memory allocator on a CPU: tuned (as all commands) or default.")
]
_Out = Annotated[
    Path,
    typer.Option("-o", "--out", help="Folder for results.json, results.csv, results.md and pareto.png."),
]
_Quick = Annotated[
    bool, typer.Option("--quick", help="Measure 1 and 4 s, one round, 20 s per model, unless said otherwise.")
]
_Overwrite = Annotated[bool, typer.Option("--overwrite", help="Start anew and remove older results.")]
_Plot = Annotated[
    bool, typer.Option("--plot", help="Fail if the picture of quality over cost cannot be drawn.")
]


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(benchmark)


def benchmark(
    context: typer.Context,
    models: _Models = None,
    sources: _Sources = None,
    preset: _Preset = None,
    against: _Against = None,
    peer_python: _Python = None,
    seconds: _Seconds = None,
    modes: _Modes = "inference,training,streaming",
    training_seconds: _TrainingSeconds = 1.0,
    training_batch: _Batch = 1,
    push_seconds: _Push = 0.01,
    rounds: _Rounds = None,
    budget_seconds: _Budget = None,
    threads: _Threads = 1,
    device: _Device = "auto",
    precision: _Precision = "float32",
    allocator: _Allocator = "tuned",
    out: _Out = Path("benchmark"),
    quick: _Quick = False,
    overwrite: _Overwrite = False,
    plot: _Plot = False,
) -> None:
    """Measure parameters, arithmetic, latency, memory, training, streams; an interrupted run continues.

    Every model runs in fresh processes, and all models are measured in each round.

    Examples:
      polsess benchmark --quick
      polsess benchmark convtasnet dptnet:paper -m my_model
      polsess benchmark gtcrn skim:skim-causal --modes streaming --push-seconds 0.02
    """
    _refuse_deleted(against, peer_python, allocator)
    from polsess import benchmark as run
    from polsess.devices import pick_device
    from polsess.schema import parse

    lengths, num_rounds, budget = _QUICK if quick else _USUAL
    settings = parse(
        run.Settings,
        {
            "seconds": _numbers(lengths if seconds is None else seconds),
            "training_seconds": training_seconds,
            "training_batch": training_batch,
            "push_seconds": push_seconds,
            "modes": modes.split(","),
            "rounds": num_rounds if rounds is None else rounds,
            "budget_seconds": budget if budget_seconds is None else budget_seconds,
            "threads": threads,
            "device": str(pick_device(device)),
            "precision": precision,
            "allocator": allocator,
        },
        "benchmark",
    )
    terminal: Terminal = context.obj
    variants = run.parse_variants(models or [], preset, sources or [])
    with terminal.progress() as progress:
        bar = progress.add_task("benchmark", total=None)

        def report(done: int, total: int, what: str) -> None:
            progress.update(bar, completed=done, total=total, description=what)
            if not terminal.interactive:
                terminal.note(f"{done} of {total}: {what}")

        result = run.benchmark_models(variants, settings, out, report, overwrite=overwrite)
    _show(terminal, result, out, plot=plot)


def _refuse_deleted(against: str | None, peer_python: str | None, allocator: str) -> None:
    script = "in the source folder of polsess, use: python benchmarks/against.py"
    if against is not None:
        raise Failure(f"--against was removed; {script} --against {against}", ExitCode.USAGE)
    if peer_python is not None:
        raise Failure(f"--peer-python was removed; {script} --python {peer_python}", ExitCode.USAGE)
    if allocator == "as_shipped":
        raise Failure(
            "--allocator as_shipped was removed; use tuned or default, which both sides of a comparison get.",
            ExitCode.USAGE,
        )


def _numbers(text: str) -> list[float]:
    try:
        return [float(word) for word in text.split(",")]
    except ValueError:
        raise Failure(f"--seconds: expected numbers such as 1,4,30, got '{text}'.", ExitCode.USAGE) from None


def _show(terminal: Terminal, result: Result, out: Path, *, plot: bool) -> None:
    from polsess import benchmark as run
    from polsess.dependencies import is_installed

    typer.echo(run.render(result), nl=False)
    files = [run.RESULT, run.TABLE, run.DOCUMENT]
    if plot or (result.models and is_installed("matplotlib")):
        if run.draw_pareto(result, out / run.PICTURE):
            files.append(run.PICTURE)
        else:
            terminal.note("No picture: no published score is known for any of these models.")
    terminal.note(f"Written to {out}: {', '.join(files)}")
    failed = [each.name for each in result.models if each.failure]
    if failed:
        raise Failure(f"Not measured: {', '.join(failed)}; the tables say why.")
