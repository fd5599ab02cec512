"""`polsess config`: the resolved values of an experiment and its JSON schema."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    group = typer.Typer(help="Show and check experiments.", no_args_is_help=True)
    group.command()(show)
    group.command()(schema)
    app.add_typer(group, name="config")


def show(
    context: typer.Context,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Settings to change, e.g. training.max_epochs=3."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "-c", "--config", help="The experiment's YAML file, or the name of a recipe.", show_default=False
        ),
    ] = None,
) -> None:
    """Print every value of an experiment and where it came from."""
    from rich.table import Table

    from polsess.cli.terminal import create_page
    from polsess.config import explain_config

    table = Table("key", "value", "from", box=None)
    for key, value, origin in explain_config(config, overrides or [], say=context.obj.note):
        table.add_row(key, str(value), origin)
    create_page().print(table)


def schema(
    model: Annotated[str, typer.Option("-m", "--model", help="Model whose fields the schema includes.")],
) -> None:
    """Print the JSON schema of experiments with a model, for editors."""
    import json

    from polsess.config import Config
    from polsess.models import Network, get_model_class

    document = Config.model_json_schema()
    fields = get_model_class(model, Network).config_class.model_json_schema()
    parts = fields.pop("$defs", {})  # references lead to the root
    document["$defs"] = {**document.get("$defs", {}), **parts, "NetworkConfig": fields}
    typer.echo(json.dumps(document, indent=2))
