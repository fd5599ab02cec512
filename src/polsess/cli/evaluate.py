"""`polsess evaluate`: score models, or estimates in files, on a test set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from polsess.cli.terminal import ExitCode, Failure, Terminal

if TYPE_CHECKING:
    from polsess.evaluate import Evaluation, System


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(evaluate)


def evaluate(
    context: typer.Context,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Changes of the data, e.g. corpus.sample_rate=8000."),
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(
            "-d",
            "--data",
            help="A YAML with a corpus, a folder of <item>/{mix,s1,s2}.wav, or a metadata.csv. Repeatable.",
        ),
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option("-m", "--model", help="Weights in any format. Repeatable.")
    ] = None,
    estimates: Annotated[
        Path | None,
        typer.Option("--estimates", help="Score the files <item>/<system>/s1.wav … of this folder instead."),
    ] = None,
    system: Annotated[
        list[str] | None, typer.Option("--system", help="Only these systems of --estimates. Repeatable.")
    ] = None,
    out: Annotated[
        Path, typer.Option("-o", "--out", help="Receives <data>/<model>/scores.csv and summary.json.")
    ] = Path("evaluation"),
    task: Annotated[
        Literal["ES", "EB", "SB"] | None,
        typer.Option("--task", help="ES: the first speaker, EB: the sum, SB: every speaker."),
    ] = None,
    split: Annotated[
        Literal["train", "val", "test"], typer.Option("--split", help="Part of the data.")
    ] = "test",
    metrics: Annotated[
        str | None,
        typer.Option("--metrics", help="E.g. si_snr,sdr,pesq; all that are installed if left out."),
    ] = None,
    by: Annotated[
        list[str] | None, typer.Option("--by", help="Also a table by this condition, e.g. sexes. Repeatable.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", min=0, help="Processes for the metrics; all cores if left out.")
    ] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda, mps.")] = "auto",
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only the first utterances.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Of data that is drawn.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start anew, forget old results.")] = False,
) -> None:
    """Score every utterance; an interrupted evaluation goes on where it stopped."""
    from polsess.allocator import tune_allocator
    from polsess.data import Split
    from polsess.evaluate import evaluate as run
    from polsess.evaluate import name_of_data, open_corpus
    from polsess.metrics import resolve_metrics
    from polsess.tasks import Task

    terminal: Terminal = context.obj
    if not data or (model is None) == (estimates is None):
        raise Failure("Say what to evaluate: -d DATA and -m MODEL or --estimates FOLDER.", ExitCode.USAGE)
    tune_allocator()
    chosen = resolve_metrics(metrics.split(",") if metrics else None)
    if metrics is None:
        _note_missing_metrics(terminal)
    num_failed = 0
    for each in _open_systems(model, device, estimates, system):
        for path in data:
            corpus = open_corpus(
                path,
                overrides or [],
                task=Task(task) if task else None,
                split=Split(split),
                seed=seed,
                sample_rate=each.sample_rate,
            )
            folder = out / name_of_data(path) / each.name
            with terminal.progress() as progress:
                bar = progress.add_task(each.name, total=None)
                evaluation = run(
                    each,
                    corpus,
                    metrics=chosen,
                    num_workers=jobs,
                    folder=folder,
                    limit=limit,
                    overwrite=overwrite,
                    progress=lambda done, total: progress.update(bar, completed=done, total=total),  # noqa: B023
                )
            _print(terminal, evaluation, by or [], folder)
            num_failed += evaluation.num_failed
    if num_failed:
        raise Failure(f"{num_failed} utterance(s) could not be evaluated: see the column 'failure'.")


def _open_systems(
    models: list[str] | None, device: str, estimates: Path | None, names: list[str] | None
) -> list[System]:
    from polsess.checkpoints import CheckpointError
    from polsess.evaluate import open_estimates, open_models

    if estimates is not None:
        return open_estimates(estimates, names)
    try:
        return open_models(models or [], device)
    except (CheckpointError, OSError) as error:
        raise Failure(str(error), ExitCode.MODEL) from None


def _note_missing_metrics(terminal: Terminal) -> None:
    from polsess.metrics import missing_metrics

    for name, package in missing_metrics().items():
        terminal.note(f"{name} is left out: the package {package} is not installed.")


def _print(terminal: Terminal, evaluation: Evaluation, conditions: list[str], folder: Path) -> None:
    from polsess.evaluate.tables import failure_lines, strata_table, summary_table

    settings = evaluation.settings
    typer.echo(
        f"\n{evaluation.system}, task {settings['task']}, {len(evaluation.rows)} utterances at "
        f"{settings['sample_rate']} Hz, list {evaluation.list_hash}\n\n{summary_table(evaluation)}\n"
    )
    for line in failure_lines(evaluation):
        typer.echo(f"No value: {line}")
    for key in conditions:
        typer.echo(f"\nSI-SNRi [dB] by {key}\n\n{strata_table(evaluation, key)}\n")
    terminal.note(f"Every utterance: {folder / 'scores.csv'}; summary: {folder / 'summary.json'}")
