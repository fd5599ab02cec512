"""`polsess runs`: training runs side by side, read from their folders."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from polsess.cli.terminal import Terminal


class TableFormat(StrEnum):
    """How the table is written."""

    TEXT = "text"
    MARKDOWN = "markdown"
    LATEX = "latex"
    CSV = "csv"
    JSON = "json"


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(runs)


def runs(
    context: typer.Context,
    folders: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[FOLDER]...",
            help="Folders of runs, or folders that hold them at any depth.",
            show_default="the folder runs",
        ),
    ] = None,
    form: Annotated[
        TableFormat, typer.Option("-f", "--format", help="Format of the table.")
    ] = TableFormat.TEXT,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot",
            metavar="PICTURE",
            help="Picture to draw the learning curves into, e.g. a .png or .svg.",
            show_default=False,
        ),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(
            "--columns",
            help="Columns, separated by commas, e.g. run,best,parameters,training.optimizer.learning_rate.",
        ),
    ] = None,
) -> None:
    """Compare training runs: state, best score, epochs, time, parameters, settings that differ.

    Examples:
      polsess runs
      polsess runs runs/small runs/large --plot curves.png
      polsess runs runs --format latex > table.tex
    """
    from polsess.training.history import find_runs
    from polsess.training.run_table import draw_curves, render_runs

    terminal: Terminal = context.obj
    found = find_runs(folders or [Path("runs")])
    chosen = [name.strip() for name in columns.split(",")] if columns else []
    typer.echo(render_runs(found, form.value, chosen))
    if plot is not None:
        draw_curves(found, plot)
        terminal.note(f"Learning curves: {plot}")
