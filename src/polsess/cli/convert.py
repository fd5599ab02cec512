"""`polsess convert`: any readable checkpoint becomes our folder, or the original project's bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from polsess.cli.terminal import Terminal

if TYPE_CHECKING:
    from polsess.checkpoints import MeasuredResult


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(convert)


def convert(
    context: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            metavar="SRC", help="Checkpoint to read: a folder, a file or OWNER/NAME on the Hugging Face hub."
        ),
    ],
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DST", help="Folder to write: new, empty, or of an older model, which is replaced."
        ),
    ],
    to: Annotated[
        Literal["polsess", "polsess-bundle"],
        typer.Option(
            "--to",
            help="What to write: a folder of polsess, or a bundle that the original project's package loads.",
        ),
    ] = "polsess",
    revision: Annotated[
        str | None, typer.Option("--revision", help="Commit, tag or branch to read from the hub.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "-c", "--config", help="YAML file of the training, for a checkpoint that holds no configuration."
        ),
    ] = None,
    license_name: Annotated[
        str | None,
        typer.Option("--license", help="Licence of the weights, written into the card, e.g. cc-by-nc-4.0."),
    ] = None,
    evaluation: Annotated[
        list[Path] | None,
        typer.Option(
            "--evaluation",
            metavar="FOLDER",
            help="Folder of a finished polsess evaluate of this very checkpoint, for the card. Repeatable.",
        ),
    ] = None,
    half: Annotated[bool, typer.Option("--half", help="Store weights in 16 bits.")] = False,
) -> None:
    """Convert a checkpoint to config.json, model.safetensors and a card, or to a bundle.

    Examples:
      polsess convert speechbrain/sepformer-wham my_model
      polsess convert runs/a my_model --license cc-by-4.0 --evaluation evaluation/my_set/a
      polsess convert runs/sepformer bundle --to polsess-bundle
    """
    from polsess.checkpoints import convert_checkpoint
    from polsess.yaml_files import read_section

    terminal: Terminal = context.obj
    model_config = read_section(config, "model") if config else None
    saved = convert_checkpoint(
        source,
        folder,
        to=to,
        revision=revision,
        config=model_config,
        license_name=license_name,
        results=_results(evaluation or [], source, revision, model_config),
        half_precision=half,
    )
    terminal.note(f"Saved: {saved}")


def _results(
    folders: list[Path], source: str, revision: str | None, config: dict[str, Any] | None
) -> list[MeasuredResult]:
    from polsess.checkpoints import load_model
    from polsess.evaluation import measured_result

    if not folders:
        return []
    model = load_model(source, revision=revision, config=config)
    return [measured_result(folder, model, source) for folder in folders]
