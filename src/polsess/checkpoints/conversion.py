"""Any checkpoint that can be read, saved again: a folder of our own, or the original project's bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Literal

from polsess.checkpoints.building import build_model
from polsess.checkpoints.catalogue import Published, catalogue
from polsess.checkpoints.formats import Checkpoint
from polsess.checkpoints.hub import is_hub_id
from polsess.checkpoints.loading import read_checkpoint
from polsess.checkpoints.measured import MeasuredResult
from polsess.checkpoints.native import save_model
from polsess.checkpoints.toolkits.original_bundle import save_bundle
from polsess.checkpoints.unpickling import CheckpointError
from polsess.files import sha256
from polsess.models import Network, SeparationModel
from polsess.schema import parse

Target = Literal["polsess", "polsess-bundle"]
"""What is written: our folder, or a bundle of the original project."""


def convert_checkpoint(
    source: str | Path,
    folder: str | Path,
    *,
    to: Target = "polsess",
    revision: str | None = None,
    config: Mapping[str, Any] | None = None,
    license_name: str | None = None,
    results: Sequence[MeasuredResult] = (),
    half_precision: bool = False,
) -> Path:
    """Read a checkpoint of any format and save it as ``config.json``, ``model.safetensors`` and a card.

    With ``to="polsess-bundle"`` it becomes ``separator.json`` and ``weights.safetensors``, which the original
    project's package ``polsess-models`` loads.

    Statements of the source about itself (scores, corpus, licence) are kept under ``provenance``, with the
    origin of the weights. Of an absolute path in it only the last part is kept: converted models are shared.
    The card tells what is known of them: where they came from, what their authors state of published ones,
    and what was measured.

    Args:
        source: A folder, a file or an id, as ``load_model`` takes them.
        folder: Folder that receives the model.
        to: What is written.
        revision: The commit, tag or branch on the hub; only for ids.
        config: The model's configuration, only for files that hold none.
        license_name: The licence of the weights as the hub writes it; None for that of published ones.
        results: What was measured of the source, for the card; with none, those that it has itself.
        half_precision: Store weights in 16 bits. None of these three is for a bundle.

    Returns:
        The folder.

    Raises:
        CheckpointError: If the source cannot be read, the folder holds other files, or the original package
            has no such network.
    """
    if to == "polsess-bundle" and (license_name is not None or results or half_precision):
        raise CheckpointError(
            "a bundle has no card for a licence and scores, and its weights are of 32 bits; leave them out."
        )
    checkpoint = read_checkpoint(source, revision=revision, config=config)
    notes = without_folders(checkpoint.provenance)
    if to == "polsess-bundle":
        separator = build_model(checkpoint.config, checkpoint.state, str(source), kind=SeparationModel)
        notes = {"source_checkpoint": _source_of(checkpoint), **notes}
        return save_bundle(separator, folder, task=checkpoint.task, provenance=notes)
    model = build_model(checkpoint.config, checkpoint.state, str(source), kind=Network)
    origin = {
        "source": str(source) if is_hub_id(source) else Path(source).name,
        "format": checkpoint.format,
        "revision": checkpoint.revision,
    }
    published = catalogue().get(str(source))
    provenance = {**notes, "converted_from": origin}
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


def _source_of(checkpoint: Checkpoint) -> dict[str, str | None]:
    """Name of the checkpoint, and the SHA-256 of its weights where one file holds them."""
    weights = [path for path in checkpoint.files if path.suffix not in (".json", ".yaml", ".yml")]
    name = checkpoint.source if is_hub_id(checkpoint.source) else Path(checkpoint.source).name
    return {"name": name, "sha256": sha256(weights[0]) if len(weights) == 1 else None}


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
