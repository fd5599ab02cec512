"""`polsess compare`: which system is better, by how much, and whether that is shown."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from polsess.cli.terminal import Terminal


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(compare)


def compare(
    context: typer.Context,
    systems: Annotated[
        list[str],
        typer.Argument(
            metavar="SYSTEM...",
            help="Folders that `polsess evaluate` wrote; NAME=FOLDER,FOLDER joins training runs of a system.",
        ),
    ],
    score: Annotated[str, typer.Option("--score", help="The column compared.")] = "si_snri",
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Folder for the tables as Markdown, CSV and LaTeX.")
    ] = None,
    common: Annotated[
        bool, typer.Option("--common", help="Use the utterances that all have, where lists differ.")
    ] = False,
) -> None:
    """Compare systems on the same utterances: paired tests, intervals, the utterances that differ most."""
    from polsess.evaluation.comparison import compare as run
    from polsess.evaluation.comparison import parse_contender, report, save_comparison

    terminal: Terminal = context.obj
    comparison = run([parse_contender(each) for each in systems], score, common=common)
    typer.echo(report(comparison))
    if out is None:
        return
    save_comparison(comparison, out)
    terminal.note(f"Tables: {out}. For pictures run polsess report on the same folders.")
