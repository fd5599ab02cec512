"""`polsess verify`: reproduce a published score."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from polsess.cli.terminal import ExitCode, Terminal

if TYPE_CHECKING:
    from polsess.evaluation.verification import Verification


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(verify)


def verify(
    context: typer.Context,
    name: Annotated[
        str,
        typer.Argument(
            help="Published id, e.g. speechbrain/sepformer-wsj02mix, or architecture, e.g. sepformer."
        ),
    ],
    root: Annotated[Path, typer.Argument(metavar="PATH", help="Folder of the corpus.")],
    corpus: Annotated[
        str | None,
        typer.Option("--corpus", help="Test set, e.g. wsj0-2mix, where the model has scores on several."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "-m", "--model", help="Weights to use in place of the published ones, e.g. a local copy."
        ),
    ] = None,
    mode: Annotated[Literal["min", "max"], typer.Option("--mode", help="Mode of the mixtures.")] = "min",
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit", min=1, help="Number of utterances to evaluate, from the first; all if left out."
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", min=0, help="Number of processes for the metrics; one per core if left out."),
    ] = None,
    device: Annotated[
        str, typer.Option("--device", help="Device for the model: auto, cpu, cuda or mps.")
    ] = "auto",
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="Folder for the table; an interrupted evaluation in it continues."),
    ] = None,
) -> None:
    """Evaluate published weights as their authors did and compare with the published score.

    Exit code 0 if the score is the published one within its tolerance, 1 if not.

    Examples:
      polsess verify sepformer --corpus wsj0-2mix /data/wsj0-mix
    """
    from polsess.allocator import tune_allocator
    from polsess.evaluation.verification import find_published
    from polsess.evaluation.verification import verify as run

    terminal: Terminal = context.obj
    published = find_published(name, corpus)
    tune_allocator()
    with terminal.progress() as progress:
        bar = progress.add_task(published.hub_id, total=None)
        found = run(
            published,
            root,
            model=model,
            mode=mode,
            device=device,
            limit=limit,
            num_workers=jobs,
            folder=out,
            progress=lambda done, total: progress.update(bar, completed=done, total=total),
        )
    _print(found, model)
    if not found.passed:
        raise typer.Exit(ExitCode.SOME_FAILED)


def _print(found: Verification, model: str | None) -> None:
    from polsess.text_tables import number

    published, measured = found.published, found.measured
    conditions = published.conditions or "conditions not stated"
    interval = f"95 % interval {number(measured.low)} to {number(measured.high)}"
    lines = [
        f"{model or published.hub_id} on {published.benchmark} at {published.sample_rate} Hz: SI-SNRi [dB]",
        f"published  {published.score:g} ({published.page}; {conditions})",
        f"measured   {number(measured.mean)} ({interval}, {measured.count} utterances)",
        f"difference {found.difference:+.2f}, tolerance {published.tolerance_db:g}",
        *(f"Not the published conditions: {each}." for each in found.deviations),
        "PASS: this is the published score." if found.passed else _failure(found),
    ]
    typer.echo("\n".join(lines))


def _failure(found: Verification) -> str:
    if found.deviations:
        return "NOT VERIFIED: the two numbers cannot be compared."
    return "FAIL: this is not the published score."
