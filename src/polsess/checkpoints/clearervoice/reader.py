"""Recognising and reading the four layouts of a published MossFormer2."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from polsess.checkpoints.clearervoice.mossformer2 import convert_mossformer2, is_mossformer2
from polsess.checkpoints.formats import CheckpointError, Converted, Reader, register_reader
from polsess.checkpoints.weight_files import WeightFiles, state_of

PARTS = ("encoder", "masknet", "decoder")
POINTER = "last_best_checkpoint"
"""A text file of ClearerVoice-Studio that names the file with the weights."""
_PART_FILES = [f"{part}.ckpt" for part in PARTS]
_SUFFIXES = ("*.bin", "*.pt", "*.pth")
_UNTOLD = {"group_size", "sample_rate", "output_mode", "shift_tokens", "dropout"}
"""Fields that no tensor shows."""


@register_reader
class ClearerVoiceReader(Reader):
    """Tensors named ``flashT`` or ``mossformerM``, in one file, in three, or in a training state."""

    format = "clearervoice"

    def recognises(self, files: WeightFiles) -> bool:
        """See the base class."""
        return _single_file(files) is not None or _is_three_parts(files)

    def near_miss(self, files: WeightFiles) -> str | None:
        """See the base class."""
        if files.main in (None, POINTER) and files.has(POINTER):
            name = _pointed(files)
            if name is None or not files.has(name):
                return f"{POINTER} names {name!r}, and that file is missing beside it."
            return f"{name} is of ClearerVoice-Studio, but not of its MossFormer2 for separation."
        return None

    def read(self, files: WeightFiles, config: Mapping[str, Any] | None) -> Converted:
        """See the base class; ``config`` may say only what no tensor shows."""
        given = dict(config or {})
        if not given.keys() <= _UNTOLD | {"model_type"}:
            known = ", ".join(sorted(_UNTOLD))
            raise CheckpointError(f"{files.path}: the tensors tell all but {known}; leave the rest out.")
        state, name = _state(files)
        where = str(files.folder / name)
        arguments = _arguments(files)
        if "config_name" not in arguments and "output_mode" not in given and _is_hub_layout(state):
            raise CheckpointError(
                f"{where}: config.json is missing; say whether the network masks or maps, "
                "config={'output_mode': 'mask'} or 'map'."
            )
        try:
            converted = convert_mossformer2(arguments, state)
        except KeyError as error:
            raise CheckpointError(f"{where}: {error.args[0]} is missing.") from None
        except CheckpointError as error:
            raise CheckpointError(f"{where}: {error}") from None
        notes: dict[str, Any] = {key: arguments[key] for key in ("config_name", "type") if key in arguments}
        return Converted({**converted.model, **given, "model_type": "mossformer2"}, converted.state, notes)


def _single_file(files: WeightFiles) -> str | None:
    """The file with all tensors, if there is one."""
    if files.main in (None, POINTER) and files.has(POINTER):
        names = [name] if (name := _pointed(files)) is not None and files.has(name) else []
    else:
        names = files.candidates(*(_SUFFIXES if files.main else ("pytorch_model.bin",)))
    return next((name for name in names if is_mossformer2(_tensors(files.torch_file(name)))), None)


def _is_three_parts(files: WeightFiles) -> bool:
    if files.main not in (None, "config.json", *_PART_FILES) or not files.has(*_PART_FILES):
        return False
    return is_mossformer2(_tensors(files.torch_file("masknet.ckpt")))


def _pointed(files: WeightFiles) -> str | None:
    """The name within ``last_best_checkpoint``; None if it is no plain file name."""
    with (files.folder / POINTER).open("rb") as file:
        name = file.read(256).decode("utf-8", "replace").strip()
    return name if name and Path(name).name == name and name.isprintable() else None


def _tensors(content: Any) -> Mapping[str, Any]:
    """The network's entries of an unpickled file, training state or not."""
    if not isinstance(content, dict):
        return {}
    inner = content.get("model", content)
    return {key: inner[key] for key in inner if isinstance(key, str)} if isinstance(inner, dict) else {}


def _state(files: WeightFiles) -> tuple[dict[str, Tensor], str]:
    name = _single_file(files)
    if name is not None:
        return state_of(_tensors(files.torch_file(name)), str(files.folder / name)), name
    parts = {part: state_of(files.torch_file(f"{part}.ckpt"), f"{part}.ckpt") for part in PARTS}
    joined = {f"{part}.{key}": value for part, state in parts.items() for key, value in state.items()}
    return joined, "masknet.ckpt"


def _is_hub_layout(state: Mapping[str, Tensor]) -> bool:
    """Whether this is the authors' own repository, whose networks mask or map; the others mask."""
    return any("flashT" in key for key in state)


def _arguments(files: WeightFiles) -> dict[str, Any]:
    """What stands beside the tensors; the rate from a name where no file tells it."""
    found: dict[str, Any] = {}
    if files.has("config.json"):
        found = _mapping(files, "config.json", files.json("config.json"))
    elif files.has("configuration.json"):
        content = _mapping(files, "configuration.json", files.json("configuration.json"))
        found = _mapping(files, "configuration.json", content.get("model", {}))
    if "sample_rate" not in found:
        named = re.search(r"_(8|16)k\b", f"{found.get('type', '')} {files.folder.resolve().name}", re.I)
        found["sample_rate"] = 1000 * int(named.group(1)) if named else 16000  # MossFormer2_SS_16K
    return found


def _mapping(files: WeightFiles, name: str, content: Any) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise CheckpointError(f"{files.folder / name}: expected a mapping, got {type(content).__name__}.")
    return dict(content)
