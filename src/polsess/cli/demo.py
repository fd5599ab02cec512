"""`polsess demo`: separate the mixtures that come with the package, and a conversation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(demo)


def demo(
    out: Annotated[
        Path, typer.Option("-o", "--out", help="Folder that receives sounds, pictures and a page.")
    ] = Path("demo"),
    model: Annotated[
        str, typer.Option("-m", "--model", help="Model, given as for `polsess separate`.")
    ] = "default-16k",
) -> None:
    """Separate mixtures and a conversation of two recorded voices; write sounds and a page, print scores.

    Examples:
      polsess demo
      polsess demo -m default -o heard
    """
    from polsess.allocator import tune_allocator

    tune_allocator()

    from polsess.demo import PAGE, DemoItem, run_demo
    from polsess.inference import Separator

    items: list[DemoItem] = []

    def report(item: DemoItem) -> None:
        if not items:
            typer.echo(f"{'mixture':<14}{'SI-SNRi':>13}{'real time x':>14}    files")
        items.append(item)
        typer.echo(
            f"{item.name:<14}{item.si_snri_db:>10.2f} dB{item.realtime_factor:>14.3f}    {item.folder}"
        )

    separator = Separator.from_pretrained(model, num_speakers=2)
    run_demo(out, separator, report)
    mean = sum(item.si_snri_db for item in items) / len(items)
    typer.echo(f"{'mean':<14}{mean:>10.2f} dB")
    typer.echo(f"Products were computed in {separator.precision}.")
    typer.echo(f"Listen and look: {out / PAGE}")
