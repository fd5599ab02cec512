"""`polsess doctor`: what this machine has, and what to mend."""

from __future__ import annotations

from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(doctor)


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print data for programs.")] = False,
) -> None:
    """Say what fails (exit code 1) or will be slow on this machine, and the command that mends it."""
    import json
    from dataclasses import asdict

    from rich.console import Console
    from rich.table import Table

    from polsess.cli.terminal import ExitCode
    from polsess.doctor import gather_facts, judge

    facts = gather_facts()
    findings = judge(facts)
    if as_json:
        data = {"facts": asdict(facts), "findings": [asdict(finding) for finding in findings]}
        typer.echo(json.dumps(data, indent=2))
    else:
        table = Table("fact", "value", box=None)
        for key, value in asdict(facts).items():
            shown = value
            if isinstance(value, dict):
                shown = ", ".join(f"{name} {version or '-'}" for name, version in value.items())
            elif isinstance(value, (list, tuple)):
                shown = ", ".join(value) or "none"
            table.add_row(key, str(shown))
        console = Console(highlight=False, markup=False, soft_wrap=True)
        Console(highlight=False, markup=False).print(table)
        for finding in findings:
            console.print(f"{finding.level}: {finding.message}")
            if finding.remedy:
                console.print(f"    {finding.remedy}")
    if any(finding.level == "broken" for finding in findings):
        raise typer.Exit(ExitCode.SOME_FAILED)
