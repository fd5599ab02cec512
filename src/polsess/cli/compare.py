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
        Path | None, typer.Option("-o", "--out", help="Receives Markdown, CSV, LaTeX and pictures.")
    ] = None,
    common: Annotated[
        bool, typer.Option("--common", help="Use the utterances that all have, where lists differ.")
    ] = False,
) -> None:
    """Compare systems on the same utterances: paired tests, intervals, the utterances that differ most."""
    from polsess.dependencies import is_installed
    from polsess.evaluation.comparing import compare as run
    from polsess.evaluation.comparing import parse_contender, report, save_comparison
    from polsess.evaluation.plots import plot_pairs

    terminal: Terminal = context.obj
    comparison = run([parse_contender(each) for each in systems], score, common=common)
    typer.echo(report(comparison))
    if out is None:
        return
    save_comparison(comparison, out)
    if is_installed("matplotlib"):
        plot_pairs(comparison, out)
    else:
        terminal.note("No pictures: matplotlib is not installed (pip install 'polsess-separation[plots]').")
    terminal.note(f"Tables and pictures: {out}")
