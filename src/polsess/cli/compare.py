"""`polsess compare`: paired tests between systems, with the sizes of the differences."""

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
            help="Folders of evaluations, or a folder that holds several; NAME=FOLDER,FOLDER joins the "
            "training runs of one system.",
        ),
    ],
    score: Annotated[
        str, typer.Option("--score", help="Score to compare, a column of scores.csv.")
    ] = "si_snri",
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Folder for the tables as Markdown, CSV and LaTeX.")
    ] = None,
    common: Annotated[
        bool,
        typer.Option(
            "--common", help="Compare on the utterances that all systems have, where their lists differ."
        ),
    ] = False,
) -> None:
    """Compare systems on the same utterances: paired tests, intervals, the utterances that differ most.

    Examples:
      polsess compare evaluation/my_set/a evaluation/my_set/b -o comparison
    """
    from polsess.evaluation.comparison import compare as run
    from polsess.evaluation.comparison import parse_contenders, report, save_comparison

    terminal: Terminal = context.obj
    comparison = run(parse_contenders(systems), score, common=common)
    typer.echo(report(comparison))
    if out is None:
        return
    save_comparison(comparison, out)
    terminal.note(f"Tables: {out}. For pictures run polsess report on the same folders.")
