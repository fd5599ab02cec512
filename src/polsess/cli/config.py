"""`polsess config`: the resolved values of an experiment and its JSON schema."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

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
    form: Annotated[
        Literal["text", "yaml", "json"],
        typer.Option(
            "-f", "--format", help="text says where each value came from; yaml and json are experiments."
        ),
    ] = "text",
) -> None:
    """Print every value of an experiment and where it came from.

    Examples:
      polsess config show -c dprnn_sb_polsess training.max_epochs=3
      polsess config show -c dprnn_sb_polsess --format yaml > mine.yaml
    """
    import json

    import yaml

    from polsess.config import explain_config, load_config

    say = context.obj.note
    if form != "text":
        plain = load_config(config, overrides or [], say=say).model_dump(mode="json")
        text = json.dumps(plain, indent=2) if form == "json" else yaml.safe_dump(plain, sort_keys=False)
        typer.echo(text.rstrip("\n"))
        return
    rows = explain_config(config, overrides or [], say=say)
    places = dict.fromkeys(origin for _, _, origin in rows)
    names = [(key, str(value), _short(origin)) for key, value, origin in rows]
    widths = [max(len(name[column]) for name in names) for column in (0, 2)]
    for key, value, origin in names:
        typer.echo(f"{key:{widths[0]}}  {origin:{widths[1]}}  {value}")
    for place in places:
        if _short(place) != place:
            typer.echo(f"\n{_short(place)}: {place}")


def _short(origin: str) -> str:
    """The name of a file without its folder; other origins as they are."""
    return Path(origin).name


def schema(
    model: Annotated[str, typer.Option("-m", "--model", help="Model whose fields the schema includes.")],
) -> None:
    """Print the JSON schema of experiments with a model, for editors.

    Examples:
      polsess config schema -m sepformer > sepformer.schema.json
    """
    import json

    from polsess.config import Config
    from polsess.models import Network, get_model_class

    document = Config.model_json_schema()
    fields = get_model_class(model, Network).config_class.model_json_schema()
    parts = fields.pop("$defs", {})  # references lead to the root
    document["$defs"] = {**document.get("$defs", {}), **parts, "NetworkConfig": fields}
    typer.echo(json.dumps(document, indent=2))
