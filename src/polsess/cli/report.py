"""`polsess report`: one page on one or several evaluations, with pictures and sounds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from polsess.cli.terminal import ExitCode, Failure, Terminal


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(report)


def report(
    context: typer.Context,
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...",
            help="Folders of evaluations, or a folder that holds several; NAME=FOLDER names one.",
        ),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="HTML file to write.")] = Path("report.html"),
    score: Annotated[str, typer.Option("--score", help="Score to show, a column of scores.csv.")] = "si_snri",
    examples: Annotated[
        int,
        typer.Option(
            "--examples",
            min=0,
            help="Number of players for each of the worst, the median and the best utterances.",
        ),
    ] = 2,
    seconds: Annotated[
        float | None,
        typer.Option(
            "--seconds",
            min=0.1,
            help="Length of each player in seconds; longer utterances are cut.",
            show_default="12, and 60 for conversations",
        ),
    ] = None,
    max_megabytes: Annotated[
        float,
        typer.Option("--max-megabytes", min=0.1, help="Largest size of all players together, in megabytes."),
    ] = 25.0,
    costs: Annotated[
        Path | None,
        typer.Option(
            "--costs", help='JSON file {"system": cost}; multiply-accumulates or parameters if left out.'
        ),
    ] = None,
    cost_title: Annotated[
        str, typer.Option("--cost-title", help="Name and unit of the costs, e.g. 'GMAC per second'.")
    ] = "cost",
    title: Annotated[str, typer.Option("--title", help="Title of the page.")] = "Evaluation report",
    device: Annotated[
        str,
        typer.Option(
            "--device", help="Device for models whose estimates were not saved: auto, cpu, cuda or mps."
        ),
    ] = "auto",
) -> None:
    """Make one self-contained HTML file: tables, charts by condition, comparisons and players.

    Players use the estimates of `polsess evaluate --save-estimates`; without them the model separates the
    chosen utterances again.

    Examples:
      polsess report evaluation/my_set -o report.html
    """
    from polsess.allocator import tune_allocator
    from polsess.files import check_target, write_text
    from polsess.report import ReportOptions, create_report, open_runs

    terminal: Terminal = context.obj
    check_target(out)
    tune_allocator()
    options = ReportOptions(
        title,
        score,
        examples,
        seconds,
        max_megabytes,
        _read_costs(costs) if costs else {},
        cost_title,
    )
    opened = open_runs(runs, device)
    with terminal.progress() as progress:
        bar = progress.add_task("players", total=None)
        page, problems = create_report(
            opened, options, lambda name: progress.update(bar, advance=1, description=name)
        )
    write_text(out, page)
    for problem in problems:
        terminal.note(problem)
    terminal.note(f"{out}: {out.stat().st_size / 1e6:.1f} MB; open it in a browser.")


def _read_costs(path: Path) -> dict[str, float]:
    from polsess.files import read_json

    try:
        return {str(name): float(cost) for name, cost in read_json(path).items()}
    except (ValueError, TypeError):
        raise Failure(
            f'{path}: expected a mapping of systems to numbers, e.g. {{"a": 4.98}}.', ExitCode.USAGE
        ) from None
