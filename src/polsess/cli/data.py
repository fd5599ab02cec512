"""`polsess data`: audit a corpus, generate one, measure how fast one is read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from polsess.cli.terminal import ExitCode, Terminal

data_app = typer.Typer(help="Audit, generate and time corpora.", no_args_is_help=True)
Root = Annotated[Path, typer.Argument(metavar="ROOT", help="The folder that holds train, val and test.")]
Workers = Annotated[int | None, typer.Option("--workers", min=1, help="Processes; one per core by default.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.add_typer(data_app, name="data")


@data_app.command()
def audit(
    context: typer.Context,
    root: Root,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Receives all findings as a CSV.")] = None,
    headers: Annotated[bool, typer.Option("--headers", help="Look at headers and CSVs only; fast.")] = False,
    workers: Workers = None,
) -> None:
    """Look for everything that can be wrong with a PolSESS corpus; ends with 1 if something is broken."""
    from polsess.data.audit import audit_polsess, save_findings
    from polsess.data.parallel import default_workers

    terminal: Terminal = context.obj
    with terminal.progress() as progress:
        bar = progress.add_task("Rows", total=None)
        result = audit_polsess(
            root,
            headers_only=headers,
            num_workers=workers or default_workers(),
            on_start=lambda count: progress.update(bar, total=count),
            on_row=lambda: progress.advance(bar),
        )
    typer.echo(result.table())
    typer.echo(result.summary())
    if out is not None:
        save_findings(result.findings, out)
        terminal.note(f"All findings: {out}")
    if result.broken:
        raise typer.Exit(ExitCode.SOME_FAILED)
