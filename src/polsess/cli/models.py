"""`polsess models`: lists of architectures and of published weights."""

from __future__ import annotations

import shutil
import textwrap
from typing import TYPE_CHECKING, Annotated

import typer

from polsess.text_tables import counted

if TYPE_CHECKING:
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
    """List architectures with their sizes, and published weights with licence and score.

    Examples:
      polsess models
      polsess models sepformer
    """
    import json

    from polsess import overview
    from polsess.cli.terminal import ExitCode, Failure

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
    if name is None:
        typer.echo(_architectures(architectures))
        typer.echo("\ncausal is the default's; presets and more: polsess models NAME")
    else:
        typer.echo("\n\n".join(_details(architectures[0])))
    if published:
        typer.echo("\nPublished weights:\n")
    for entry in published:
        typer.echo(_published(entry))


def _architectures(architectures: list[Architecture]) -> str:
    from polsess.overview import format_macs, format_size
    from polsess.text_tables import markdown

    rows = [
        [
            each.name,
            format_size(each.default.parameters),
            format_macs(each.default.macs_per_second),
            each.precision,
            ("yes" if each.default.causal else "no") + (", can be" if _can_become(each) else ""),
        ]
        for each in architectures
    ]
    return markdown(["model", "parameters", "GMAC/s", "precision", "causal"], rows)


def _can_become(architecture: Architecture) -> bool:
    return architecture.can_be_causal and not architecture.default.causal


def _details(architecture: Architecture) -> list[str]:
    from polsess.overview import format_macs, format_size
    from polsess.text_tables import fitted, markdown

    variants = (architecture.default, *architecture.presets)
    rows = [
        [
            format_size(each.parameters),
            format_macs(each.macs_per_second),
            str(each.num_sources),
            str(each.sample_rate),
            "yes" if each.causal else "no",
        ]
        for each in variants
    ]
    header = ["preset", "size", "GMAC/s", "C", "Hz", "causal"]
    about = [_wrapped(text) for text in (f"{architecture.title}.", *architecture.about)]
    table = fitted(
        lambda labels: markdown(header, [[label, *row] for label, row in zip(labels, rows, strict=True)]),
        [each.name for each in variants],
    )
    return [*about, table, "size: parameters; C: sources."]


def _published(entry: Published) -> str:
    """The id on a line of its own, so that it can be copied whole, and the facts below it."""
    licence = "; ".join([entry.license or "licence not stated", *entry.license_notes])
    sources = counted(entry.num_sources, "source")
    facts = [entry.model_type, entry.task, f"{entry.sample_rate} Hz", sources]
    elsewhere = "" if entry.hub == "huggingface" else f"get it by: {entry.download}"
    parts = [", ".join(facts), f"trained on {entry.corpus}", entry.stated_score, licence, elsewhere]
    return f"{entry.hub_id}\n{_wrapped('; '.join(part for part in parts if part), '    ')}"


def _wrapped(text: str, indent: str = "") -> str:
    """Text as wide as the terminal, without breaking a word."""
    width = min(100, shutil.get_terminal_size().columns)
    return textwrap.fill(
        text,
        width,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
