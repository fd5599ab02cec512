"""Any checkpoint that can be read, saved again as a folder of our own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from polsess.checkpoints.building import build_model
from polsess.checkpoints.catalogue import Published, catalogue
from polsess.checkpoints.hub import is_hub_id
from polsess.checkpoints.loading import read_checkpoint
from polsess.checkpoints.measured import MeasuredResult
from polsess.checkpoints.native import save_model
from polsess.models import Network
from polsess.schema import parse


def convert_checkpoint(
    source: str | Path,
    folder: str | Path,
    *,
    revision: str | None = None,
    config: Mapping[str, Any] | None = None,
    license_name: str | None = None,
    results: Sequence[MeasuredResult] = (),
    half_precision: bool = False,
) -> Path:
    """Read a checkpoint of any format and save it as ``config.json``, ``model.safetensors`` and a card.

    Statements of the source about itself (scores, corpus, licence) are kept under ``provenance``, with the
    origin of the weights. Of an absolute path in it only the last part is kept: converted models are shared.
    The card tells what is known of them: where they came from, what their authors state of published ones,
    and what was measured.

    Args:
        source: A folder, a file or an id, as ``load_model`` takes them.
        folder: Folder that receives the model.
        revision: The commit, tag or branch on the hub; only for ids.
        config: The model's configuration, only for files that hold none.
        license_name: The licence of the weights as the hub writes it; None for that of published ones.
        results: What was measured of the source, for the card; with none, those that it has itself.
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
    published = catalogue().get(str(source))
    provenance = {**without_folders(checkpoint.provenance), "converted_from": origin}
    own = provenance.pop("results", ())
    return save_model(
        model,
        folder,
        task=checkpoint.task,
        license_name=license_name or (published.license if published else None),
        provenance={**provenance, **({"published": _statements(published)} if published else {})},
        results=results or [parse(MeasuredResult, each, f"{source}: results") for each in own],
        half_precision=half_precision,
    )


def _statements(published: Published) -> dict[str, str]:
    """What the authors of published weights say of them."""
    stated = {
        "corpus": published.corpus,
        "score": published.stated_score,
        "licence": "; ".join(filter(None, (published.license, *published.license_notes))),
        "page": published.page,
    }
    return {key: value for key, value in stated.items() if value}


def without_folders(value: Any) -> Any:
    """Plain data in which an absolute path of a machine is a name."""
    if isinstance(value, Mapping):
        return {key: without_folders(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [without_folders(child) for child in value]
    if not isinstance(value, str | Path):
        return value
    for path in (PurePosixPath(value), PureWindowsPath(value)):
        if path.is_absolute() and path.name:
            return path.name
    return value
