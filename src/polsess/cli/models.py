"""`polsess models`: lists of architectures and of published weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from polsess.checkpoints import Published
    from polsess.overview import Architecture


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(models)


def models(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]", help="Name of an architecture, or id of published weights on the hub."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for other programs.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", hidden=True)] = False,
) -> None:
    """List architectures with their sizes, and published weights with licence and score."""
    import json

    from polsess import overview
    from polsess.cli.terminal import ExitCode, Failure, create_page

    if as_markdown:
        raise Failure("--markdown is gone: read docs/MODELS.md, or take --json.", ExitCode.USAGE)
    architectures, published = overview.select(name)
    if as_json:
        records = {
            "architectures": [overview.model_record(each) for each in architectures],
            "checkpoints": [overview.checkpoint_record(entry) for entry in published],
        }
        typer.echo(json.dumps(records, indent=2))
        return
    console = create_page()
    if name is None:
        console.print(_architectures(architectures))
    else:
        console.print(*_details(architectures[0]), sep="\n")
    if published:
        console.print(_published(published))


def _architectures(architectures: list[Architecture]) -> Table:
    from rich.table import Table

    from polsess.overview import format_causality, format_macs, format_size

    table = Table("model", "parameters", "GMAC/s", "precision", "causal", "presets", box=None)
    table.columns[-1].overflow = "fold"  # a name that is cut cannot be copied
    for each in architectures:
        presets = ", ".join(preset.name for preset in each.presets)
        size, macs = format_size(each.default.parameters), format_macs(each.default.macs_per_second)
        table.add_row(each.name, size, macs, each.precision, format_causality(each), presets)
    return table


def _details(architecture: Architecture) -> list[Table | str]:
    from rich.table import Table

    from polsess.overview import format_macs, format_size

    table = Table("preset", "parameters", "GMAC/s", "sources", "Hz", "causal", box=None)
    table.columns[0].overflow = "fold"
    for each in (architecture.default, *architecture.presets):
        table.add_row(
            each.name,
            format_size(each.parameters),
            format_macs(each.macs_per_second),
            str(each.num_sources),
            str(each.sample_rate),
            "yes" if each.causal else "no",
        )
    return [f"{architecture.title}.", *architecture.about, "", table, ""]


def _published(published: list[Published]) -> Table:
    from rich.table import Table

    table = Table("published", "model", "task", "Hz", "sources", "trained on", "dB", "licence", box=None)
    table.columns[0].overflow = "fold"
    for entry in published:
        table.add_row(
            entry.hub_id,
            entry.model_type,
            entry.task,
            str(entry.sample_rate),
            str(entry.num_sources),
            entry.corpus,
            "" if entry.score is None else f"{entry.score:g} ({entry.conditions or 'conditions not stated'})",
            "; ".join([entry.license or "not stated", *entry.license_notes]),
        )
    return table
