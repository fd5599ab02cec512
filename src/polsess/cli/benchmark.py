"""`polsess benchmark`: what models cost, and how fast other toolkits are with the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polsess.cli.terminal import ExitCode, Failure, Terminal

if TYPE_CHECKING:
    from polsess.benchmark import Result

_Models = Annotated[
    list[str] | None,
    typer.Argument(metavar="[MODEL[:PRESET]]...", help="Registered models; all of them if left out."),
]
_Sources = Annotated[
    list[str] | None, typer.Option("-m", "--model", help="Weights in any format. Repeatable.")
]
_Preset = Annotated[str | None, typer.Option("--preset", help="For every MODEL that names none.")]
_Against = Annotated[
    str | None,
    typer.Option("--against", help="speechbrain,asteroid: compare with the toolkits' own code instead."),
]
_Python = Annotated[
    Path | None,
    typer.Option("--peer-python", help="The Python of the environment that has them; this one if left out."),
]
_Seconds = Annotated[
    str | None,
    typer.Option("--seconds", help="Lengths of mixtures, e.g. 1,4,30 [default: 1,4,30; peers: 4]."),
]
_Modes = Annotated[str, typer.Option("--modes", help="inference,training or one of them.")]
_TrainingSeconds = Annotated[float, typer.Option("--training-seconds", help="Length in a training step.")]
_Batch = Annotated[int, typer.Option("--training-batch", min=1, help="Mixtures in a training step.")]
_Rounds = Annotated[int, typer.Option("--rounds", min=1, help="How often every model is visited in turn.")]
_Budget = Annotated[float, typer.Option("--budget-seconds", help="For one model in all rounds.")]
_Threads = Annotated[int, typer.Option("--threads", min=1, help="Threads of torch.")]
_Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, mps.")]
_Allocator = Annotated[
    str, typer.Option("--allocator", help="tuned, default, or as_shipped: tuned for ours, default for peers.")
]
_Out = Annotated[
    Path, typer.Option("-o", "--out", help="Receives results.json, results.csv, results.md, pareto.png.")
]
_Quick = Annotated[bool, typer.Option("--quick", help="1 and 4 s, one round, at most 20 s per model.")]
_Overwrite = Annotated[bool, typer.Option("--overwrite", help="Start anew, forget old results.")]
_Plot = Annotated[
    bool, typer.Option("--plot", help="Insist on the picture, published quality against measured cost.")
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
    modes: _Modes = "inference,training",
    training_seconds: _TrainingSeconds = 1.0,
    training_batch: _Batch = 1,
    rounds: _Rounds = 3,
    budget_seconds: _Budget = 120.0,
    threads: _Threads = 1,
    device: _Device = "auto",
    allocator: _Allocator = "tuned",
    out: _Out = Path("benchmark"),
    quick: _Quick = False,
    overwrite: _Overwrite = False,
    plot: _Plot = False,
) -> None:
    """Measure parameters, arithmetic, latency, memory, training steps; an interrupted run goes on.

    Every model runs in fresh processes, all in turn, round after round.

    Examples: `polsess benchmark --quick`, `polsess benchmark convtasnet dptnet:paper -m my_model`,
    `polsess benchmark --against speechbrain,asteroid --peer-python ../peers/bin/python`.
    """
    from polsess import benchmark as run
    from polsess.inference import pick_device
    from polsess.schema import parse

    lengths = seconds or ("4" if against else "1,4" if quick else "1,4,30")
    settings = parse(
        run.Settings,
        {
            "seconds": _numbers(lengths),
            "training_seconds": training_seconds,
            "training_batch": training_batch,
            "modes": modes.split(","),
            "rounds": 1 if quick else rounds,
            "budget_seconds": 20.0 if quick else budget_seconds,
            "threads": threads,
            "device": str(pick_device(device)),
            "allocator": allocator,
        },
        "benchmark",
    )
    if against and (sources or preset):
        raise Failure(
            "--against takes the toolkits' configurations: leave out -m and --preset.", ExitCode.USAGE
        )
    if peer_python and not against:
        raise Failure("--peer-python is for --against TOOLKIT.", ExitCode.USAGE)
    terminal: Terminal = context.obj
    with terminal.progress() as progress:
        bar = progress.add_task("benchmark", total=None)

        def report(done: int, total: int, what: str) -> None:
            progress.update(bar, completed=done, total=total, description=what)
            if not terminal.interactive:
                terminal.note(f"{done} of {total}: {what}")

        if against:
            toolkits = against.split(",")
            result = run.benchmark_peers(
                models or [], toolkits, settings, out, report, python=peer_python, overwrite=overwrite
            )
        else:
            variants = run.parse_variants(models or [], preset, sources or [])
            result = run.benchmark_models(variants, settings, out, report, overwrite=overwrite)
    _show(terminal, result, out, plot=plot)


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
    failed = [each.name for each in result.models if each.failure] + [
        p.name for p in result.peers if p.refused
    ]
    if failed:
        raise Failure(f"Not measured: {', '.join(failed)}; the tables say why.")
