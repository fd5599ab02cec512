"""`polsess doctor`: facts of this machine, what to mend, and the costs of a model here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from polsess.cli.terminal import refuse

if TYPE_CHECKING:
    from polsess.cli.terminal import Terminal


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(doctor)


def doctor(
    context: typer.Context,
    predicted: Annotated[
        str | None,
        typer.Option("--predict", metavar="MODEL[:PRESET]", help="Model whose time and memory to predict."),
    ] = None,
    seconds: Annotated[
        float, typer.Option("--seconds", min=0.01, help="Length of the mixture, for --predict.")
    ] = 10.0,
    device: Annotated[
        str, typer.Option("--device", help="Device: auto, cpu, cuda or mps, for --predict.")
    ] = "auto",
    measure: Annotated[
        bool, typer.Option("--measure", help="Run the whole length as well, for --predict.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Report what fails (exit code 1) or will be slow on this machine, with the command that mends it.

    With --predict: the time and memory that a model will take here, from two short runs.

    Examples:
      polsess doctor
      polsess doctor --predict sepformer --seconds 60 --measure
    """
    if predicted is not None:
        _predict(context.obj, predicted, seconds, device, measure, as_json)
        return
    refuse(context, {"--seconds", "--device", "--measure"}, "name the model with --predict MODEL.")
    _examine(as_json)


def _predict(
    terminal: Terminal, name: str, seconds: float, device: str, measure: bool, as_json: bool
) -> None:
    import json
    from dataclasses import asdict

    from polsess.cli.terminal import Failure
    from polsess.devices import pick_device
    from polsess.doctor import describe_prediction, predict
    from polsess.workers import WorkerError

    with terminal.progress() as progress:
        bar = progress.add_task(name, total=None)

        def report(done: int, total: int, what: str) -> None:
            progress.update(bar, completed=done, total=total, description=f"{name}: {what}")
            if not terminal.interactive and done < total:
                terminal.note(f"{done + 1} of {total}: {what}")

        try:
            found = predict(name, seconds, str(pick_device(device)), measure=measure, progress=report)
        except WorkerError as error:
            raise Failure(f"{name}: {error}") from None
    typer.echo(json.dumps(asdict(found), indent=2) if as_json else "\n".join(describe_prediction(found)))


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
