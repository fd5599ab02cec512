"""`polsess doctor`: what this machine has, and what to mend."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from polsess.cli.terminal import Terminal


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(doctor)


def doctor(
    context: typer.Context,
    predicted: Annotated[
        str | None,
        typer.Option(
            "--predict", metavar="MODEL[:PRESET]", help="Predict time and memory of a model instead."
        ),
    ] = None,
    seconds: Annotated[float, typer.Option("--seconds", min=0.01, help="Of audio, for --predict.")] = 10.0,
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda, for --predict.")] = "auto",
    measure: Annotated[
        bool, typer.Option("--measure", help="Run it as well, in a process of its own.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print data for programs.")] = False,
) -> None:
    """Say what fails (exit code 1) or will be slow on this machine, and the command that mends it.

    With --predict: how long a model will take here, and how much memory.

    \b
    Examples:
      polsess doctor
      polsess doctor --predict sepformer --seconds 60 --measure
    """  # noqa: D301 - \b keeps the lines of the examples
    if predicted is not None:
        _predict(context.obj, predicted, seconds, device, measure, as_json)
        return
    if measure:
        from polsess.cli.terminal import ExitCode, Failure

        raise Failure("--measure: name the model with --predict MODEL.", ExitCode.USAGE)
    _examine(as_json)


def _predict(
    terminal: Terminal, name: str, seconds: float, device: str, measure: bool, as_json: bool
) -> None:
    import json
    from dataclasses import asdict

    from polsess.allocator import tune_allocator
    from polsess.doctor import describe_outlook, predict
    from polsess.inference import pick_device

    tune_allocator()
    with terminal.console.status(f"Rehearsing {name}") if terminal.interactive else nullcontext():
        outlook = predict(name, seconds, str(pick_device(device)), measure=measure)
    typer.echo(json.dumps(asdict(outlook), indent=2) if as_json else "\n".join(describe_outlook(outlook)))


def _examine(as_json: bool) -> None:
    import json
    from dataclasses import asdict

    from rich.console import Console
    from rich.table import Table

    from polsess.cli.terminal import ExitCode, create_page
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
        create_page().print(table)
        console = Console(highlight=False, markup=False, soft_wrap=True)
        for finding in findings:
            console.print(f"{finding.level}: {finding.message}")
            if finding.remedy:
                console.print(f"    {finding.remedy}")
    if any(finding.level == "broken" for finding in findings):
        raise typer.Exit(ExitCode.SOME_FAILED)
