"""`polsess average`: the mean of the weights of several checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from polsess.cli.terminal import Terminal


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(average)


def average(
    context: typer.Context,
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="CKPT...",
            help="Checkpoints of one network, two or more: folders, files or ids.",
        ),
    ],
    folder: Annotated[
        Path,
        typer.Option(
            "-o", "--out", help="Folder to write: new, empty, or of an older model, which is replaced."
        ),
    ],
    license_name: Annotated[
        str | None,
        typer.Option("--license", help="Licence of the weights, written into the card, e.g. cc-by-nc-4.0."),
    ] = None,
    half: Annotated[bool, typer.Option("--half", help="Store weights in 16 bits.")] = False,
) -> None:
    """Average the weights of checkpoints of equal configurations into one model.

    It helps for checkpoints of one run, or of runs that started from the same weights; others have nothing in
    common that could be averaged. Evaluate the result.

    Examples:
      polsess average runs/a runs/b -o averaged
    """
    from polsess.checkpoints.averaging import average_checkpoints

    terminal: Terminal = context.obj
    saved = average_checkpoints(sources, folder, license_name=license_name, half_precision=half)
    terminal.note(f"Saved: {saved}")
