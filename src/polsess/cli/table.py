"""`polsess table`: systems side by side for a thesis or a paper."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from polsess.cli.terminal import Terminal


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(table)


def table(
    context: typer.Context,
    systems: Annotated[
        list[str],
        typer.Argument(
            metavar="SYSTEM...",
            help="Folders of evaluations, or a folder that holds several; NAME=FOLDER,FOLDER pools the "
            "training runs of one system.",
        ),
    ],
    columns: Annotated[
        str | None,
        typer.Option(
            "--columns",
            help="Scores and costs, separated by commas, e.g. si_snri,pesq,parameters,gmacs,rtf.",
        ),
    ] = None,
    table_format: Annotated[
        Literal["markdown", "latex", "csv"], typer.Option("--format", help="Format of the table.")
    ] = "markdown",
    common: Annotated[
        bool,
        typer.Option("--common", help="Use the utterances that all systems have, where their lists differ."),
    ] = False,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="File to write in place of the terminal.")
    ] = None,
) -> None:
    """Print a table of systems: mean scores with intervals, costs, the best and its equals marked.

    Examples:
      polsess table tasnet=eval/seed0,eval/seed1 dprnn=eval/dprnn --format latex -o table.tex
    """
    from polsess.evaluation.comparison import parse_contenders
    from polsess.evaluation.system_table import system_table
    from polsess.files import check_target, write_text

    terminal: Terminal = context.obj
    if out is not None:
        check_target(out)
    chosen = [name.strip() for name in columns.split(",")] if columns else []
    text = system_table(parse_contenders(systems), chosen, common=common).render(table_format)
    if out is None:
        typer.echo(text, nl=False)
    else:
        write_text(out, text)
        terminal.note(f"The table: {out}")
