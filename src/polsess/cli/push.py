"""`polsess push`: a saved model, with its card, to the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from polsess.cli.terminal import Terminal


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(push)


def push(
    context: typer.Context,
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Folder of the model, as polsess convert writes it.")
    ],
    hub_id: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="Its id on the Hugging Face hub.")],
    private: Annotated[
        bool,
        typer.Option("--private", help="Make a repository that only its owner sees, if it has to be made."),
    ] = False,
    revision: Annotated[
        str | None, typer.Option("--revision", help="Branch to write to, which exists.", show_default="main")
    ] = None,
) -> None:
    """Put a model on the Hugging Face hub with its card; log in before with hf auth login.

    Examples:
      polsess convert runs/a my_model --license cc-by-4.0 --evaluation evaluation/my_set/a
      polsess push my_model anna/convtasnet-polsess --private
    """
    from polsess.checkpoints import push_to_hub, read_checkpoint

    terminal: Terminal = context.obj
    address = push_to_hub(folder, hub_id, private=private, revision=revision)
    if not read_checkpoint(folder).provenance.get("results"):
        terminal.note("Its card states no measured result: convert it with --evaluation and push again.")
    terminal.note(f"Pushed: {address}")
