"""The one door: from a folder, a file or a hub id to a model, whatever toolkit wrote it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any, overload

import torch

from polsess.checkpoints.building import build_model
from polsess.checkpoints.formats import Checkpoint, Converted, Reader
from polsess.checkpoints.hub import AbsentError, fetch, is_hub_id
from polsess.checkpoints.toolkits import READERS
from polsess.checkpoints.unpickling import CheckpointError
from polsess.checkpoints.weight_files import WeightFiles
from polsess.models import Network, SeparationModel, parse_model_config
from polsess.models.registry import NetworkT
from polsess.schema import ConfigError, suggest

DEFAULT_MODEL = "default"
BUNDLED_MODELS = (
    DEFAULT_MODEL,
    "default-16k",
    "default-streaming",
    "enhance-one",
    "enhance-one-16k",
    "enhance-both",
    "enhance-both-16k",
    "enhance-one-streaming",
    "activity-detector",
    "speaker-embedder",
)
"""The small networks that come with the package, for SB, ES, EB (those for streams among them), OSD and SV;
a folder of that name: ``./default``."""
_BEST = Path("checkpoints", "best.ckpt")
"""In a run's folder."""
_EXPORTED = {
    ".onnx": "an ONNX file, which `polsess separate` and `polsess evaluate` run; name the checkpoint that it "
    "was exported from.",
    ".pt2": "a program of torch.export, which `torch.export.load` reads; name the checkpoint that it was "
    "exported from.",
}
"""What files of other runtimes are, by their endings."""


def read_checkpoint(
    source: str | Path, *, revision: str | None = None, config: Mapping[str, Any] | None = None
) -> Checkpoint:
    """Read configuration, tensors and provenance without building a model.

    Args:
        source: A folder (also of a training run: its best checkpoint), a file, the id of a model on the
            Hugging Face hub, e.g. ``"JorisCos/ConvTasNet_Libri2Mix_sepclean_16k"``, or a name in
            ``BUNDLED_MODELS``, e.g. ``"default"``.
        revision: The commit, tag or branch on the hub; only for ids.
        config: The model's configuration, only for files that hold none.

    Raises:
        CheckpointError: If the format is not known, or the files are damaged, refused or incomplete.
    """
    commit = None
    if is_hub_id(source):
        try:
            place, commit = fetch(str(source), revision)
        except AbsentError:
            if not Path(source).parent.is_dir():
                raise
            raise CheckpointError(f"{_not_here(source)} Nor was it found as an id of the hub.") from None
    elif revision is None:
        place = _local(source)
    else:
        raise CheckpointError(f"{source}: revision is for ids on the hub, not for paths; leave it out.")
    files = WeightFiles(place)
    reader = _recognise(files)
    try:
        converted = _read(reader, files, config)
        parsed = parse_model_config(converted.model, kind=Network)
    except ConfigError as error:
        raise CheckpointError(f"{source}: {error}") from None
    except (LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError) as error:
        # Text where a number belongs, a tensor of another rank: wrong content is an error of the file.
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:160]
        raise CheckpointError(
            f"{source}: not of the form that {reader.format} files have ({reason})."
        ) from error
    return Checkpoint(
        reader.format,
        parsed,
        converted.state,
        converted.provenance,
        converted.task,
        source=str(source),
        revision=commit,
        files=files.opened,
    )


@overload
def load_model(
    source: str | Path,
    *,
    device: str | torch.device = "cpu",
    revision: str | None = None,
    config: Mapping[str, Any] | None = None,
) -> SeparationModel: ...
@overload
def load_model(
    source: str | Path,
    *,
    kind: type[NetworkT],
    device: str | torch.device = "cpu",
    revision: str | None = None,
    config: Mapping[str, Any] | None = None,
) -> NetworkT: ...
def load_model(
    source: str | Path,
    *,
    kind: type[Network] = SeparationModel,
    device: str | torch.device = "cpu",
    revision: str | None = None,
    config: Mapping[str, Any] | None = None,
) -> Network:
    """Load a network with its weights, in evaluation mode.

    Args:
        source: A folder or a file of any format that this library reads, the id of a model on the
            Hugging Face hub, or a name in ``BUNDLED_MODELS``, e.g. ``"default"``.
        kind: What it has to be, e.g. ``ActivityDetector``; ``Network`` takes every kind.
        device: Device of the model.
        revision: The commit, tag or branch on the hub; only for ids.
        config: The model's configuration, only for files that hold none.

    Raises:
        CheckpointError: If the files are not known, damaged or refused, do not fit their configuration, or
            hold a network of another kind.
    """
    checkpoint = read_checkpoint(source, revision=revision, config=config)
    return build_model(checkpoint.config, checkpoint.state, str(source), kind=kind).to(device).eval()


def _local(source: str | Path) -> Path:
    """Place of the files: a bundled model's folder, the best checkpoint of a run's folder, else the path."""
    if source in BUNDLED_MODELS:
        folder = Path(str(package_files("polsess"))) / "assets" / "models" / str(source)
        if not folder.is_dir():
            raise CheckpointError(
                f"{source}: this installation holds no model of that name; name a model's folder."
            )
        return folder
    if not Path(source).exists():
        raise CheckpointError(_not_here(source))
    if not Path(source).is_file() and not Path(source).is_dir():
        raise CheckpointError(f"{source}: neither a file nor a folder (a pipe or a device).")
    best = Path(source) / _BEST
    return best if best.is_file() else Path(source)


def _not_here(source: str | Path) -> str:
    """That nothing is at a path, and what may be meant: the run around it, a neighbour, a model's name."""
    folder, *above = Path(source).parents
    if run := next((each for each in (folder, *above) if (each / _BEST).is_file()), None):
        hint = f" {run} is a run: name that folder for its best weights."
    elif folder != Path() and folder.is_dir():
        near = difflib.get_close_matches(str(source), map(str, folder.iterdir()), n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
    else:
        hint = suggest(str(source), list(BUNDLED_MODELS), "Models that come with polsess")
    return f"{source}: no such file or folder.{hint}"


def _recognise(files: WeightFiles) -> Reader:
    for reader in READERS:
        if reader.recognises(files):
            return reader
    hints = [hint for reader in READERS if (hint := reader.near_miss(files))] or _networks_in(files)
    formats = ", ".join(dict.fromkeys(reader.format for reader in READERS))
    known = f"not a checkpoint of a known format. Known: {formats}."
    reason = hints[0] if hints else _EXPORTED.get(files.path.suffix.lower(), known)
    raise CheckpointError(f"{files.path}: {reason}")


def _read(reader: Reader, files: WeightFiles, config: Mapping[str, Any] | None) -> Converted:
    """What a reader reads; where it cannot, and the tensors are another network's, that is said."""
    try:
        return reader.read(files, config)
    except CheckpointError as error:
        others = _networks_in(files, other_than=reader)
        raise CheckpointError(" ".join([str(error), *others[:1]])) from None


def _networks_in(files: WeightFiles, other_than: Reader | None = None) -> list[str]:
    """What networks the tensors of each file are of, where that shows in their names."""
    patterns = [pair for reader in READERS for pair in reader.refused.items()]
    patterns += [pair for reader in READERS if reader is not other_than for pair in reader.tensors.items()]
    return [
        f"{name} holds the tensors of {network}."
        for name, keys in files.tensor_names().items()
        for pattern, network in patterns
        if any(re.search(pattern, key) for key in keys)
    ]
