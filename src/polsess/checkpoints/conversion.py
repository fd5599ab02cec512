"""Any checkpoint that can be read, saved again as a folder of our own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from polsess.checkpoints.building import build_model
from polsess.checkpoints.hub import is_hub_id
from polsess.checkpoints.loading import read_checkpoint
from polsess.checkpoints.native import save_model
from polsess.models import Network


def convert_checkpoint(
    source: str | Path,
    folder: str | Path,
    *,
    revision: str | None = None,
    config: Mapping[str, Any] | None = None,
    license_name: str | None = None,
    half_precision: bool = False,
) -> Path:
    """Read a checkpoint of any format and save it as ``config.json``, ``model.safetensors`` and a card.

    Statements of the source about itself (scores, corpus, licence) are kept under ``provenance``, with the
    origin of the weights. Of an absolute path in it only the last part is kept: converted models are shared.

    Args:
        source: A folder, a file or an id, as ``load_model`` takes them.
        folder: Folder that receives the model.
        revision: The commit, tag or branch on the hub; only for ids.
        config: The model's configuration, only for files that hold none.
        license_name: The licence of the weights as the hub writes it.
        half_precision: Store weights in 16 bits.

    Returns:
        The folder.

    Raises:
        CheckpointError: If the source cannot be read or the folder holds other files.
    """
    checkpoint = read_checkpoint(source, revision=revision, config=config)
    model = build_model(checkpoint.config, checkpoint.state, str(source), kind=Network)
    origin = {
        "source": str(source) if is_hub_id(source) else Path(source).name,
        "format": checkpoint.format,
        "revision": checkpoint.revision,
    }
    return save_model(
        model,
        folder,
        task=checkpoint.task,
        license_name=license_name,
        provenance={**_without_folders(checkpoint.provenance), "converted_from": origin},
        half_precision=half_precision,
    )


def _without_folders(value: Any) -> Any:
    """Plain data in which an absolute path of a machine is a name."""
    if isinstance(value, Mapping):
        return {key: _without_folders(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [_without_folders(child) for child in value]
    if not isinstance(value, str | Path):
        return value
    for path in (PurePosixPath(value), PureWindowsPath(value)):
        if path.is_absolute() and path.name:
            return path.name
    return value
