"""One set of weights that is the mean of several, of one architecture: checkpoints of a run, or related runs.

Izmailov et al. (2018), "Averaging weights leads to wider optima and better generalization",
https://arxiv.org/abs/1803.05407.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from polsess.checkpoints.building import build_model
from polsess.checkpoints.formats import Checkpoint
from polsess.checkpoints.hub import is_hub_id
from polsess.checkpoints.loading import read_checkpoint
from polsess.checkpoints.native import save_model
from polsess.checkpoints.unpickling import CheckpointError
from polsess.models import Network


def average_checkpoints(
    sources: Sequence[str | Path],
    folder: str | Path,
    *,
    license_name: str | None = None,
    half_precision: bool = False,
) -> Path:
    """Save the mean of the weights of several checkpoints; the card says of which.

    Args:
        sources: Two or more folders, files or ids, as ``load_model`` takes them, of equal configurations.
        folder: Folder that receives the model.
        license_name: The licence of the weights as the hub writes it.
        half_precision: Store weights in 16 bits.

    Returns:
        The folder.

    Raises:
        CheckpointError: If one cannot be read, or they are of different networks.
    """
    if len(sources) < 2:
        raise CheckpointError(f"average: expected two checkpoints or more, got {len(sources)}.")
    checkpoints = [read_checkpoint(source) for source in sources]
    first = checkpoints[0]
    states = [
        build_model(each.config, each.state, str(source), kind=Network).state_dict()
        for each, source in zip(checkpoints, sources, strict=True)
    ]
    for checkpoint, source in zip(checkpoints, sources, strict=True):
        _check_alike(first, checkpoint, source)
    mean = {key: _mean([state[key] for state in states]) for key in states[0]}
    model = build_model(first.config, mean, str(folder), kind=Network)
    names = [str(source) if is_hub_id(source) else Path(source).name for source in sources]
    tasks = {each.task for each in checkpoints}
    return save_model(
        model,
        folder,
        task=first.task if len(tasks) == 1 else None,
        license_name=license_name,
        provenance={"averaged_from": names},
        half_precision=half_precision,
    )


def _check_alike(first: Checkpoint, other: Checkpoint, source: str | Path) -> None:
    ours, theirs = first.config.model_dump(mode="json"), other.config.model_dump(mode="json")
    if ours == theirs:
        return
    if ours["model_type"] != theirs["model_type"]:
        differing = "model_type"
    else:
        differing = next(key for key in ours if ours[key] != theirs[key])
    raise CheckpointError(
        f"{source}: expected {differing} {ours[differing]!r} of {first.source}, got {theirs[differing]!r}; "
        "only weights of equal configurations can be averaged."
    )


def _mean(tensors: Sequence[Tensor]) -> Tensor:
    """The mean, in double precision; of whole numbers, which count something, the first."""
    if not tensors[0].is_floating_point():
        return tensors[0]
    return torch.stack([each.double() for each in tensors]).mean(0).to(tensors[0].dtype)
