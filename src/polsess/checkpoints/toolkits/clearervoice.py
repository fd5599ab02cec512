"""MossFormer2 as its authors publish it: on the Hugging Face hub, in ClearerVoice-Studio and on ModelScope.

One graph in four layouts: one file or three parts beside ``config.json``; ``last_best_checkpoint`` naming a
training state; one flat file beside ``configuration.json``. Sizes are read from the tensors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from polsess.checkpoints.formats import Converted, Reader, given_fields, naming, register_reader
from polsess.checkpoints.unpickling import CheckpointError
from polsess.checkpoints.weight_files import WeightFiles, state_of
from polsess.models.layers.positions import inverse_frequencies

_STACK = r"^(?:dual_mdl\.0|mdl)\.intra_mdl\.(?:mdl\.flashT|mossformerM)"
_RENAMES = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"^module\.", ""),
        (r"^enc(?:oder)?\.conv1d\.", "encoder."),
        (r"^dec\.", "decoder."),
        (r"^mask_?net\.", ""),
        (_STACK + r"\.layers\.(\d+)\.", r"blocks.\1.attention."),
        (_STACK + r"\.fsmn\.(\d+)\.", r"blocks.\1.memory."),
        (r"^(?:dual_mdl\.0|mdl)\.intra_mdl\.(?:mdl\.norm\.)?norm\.", "norm_frames."),
        (r"^(?:dual_mdl\.0|mdl)\.intra_norm\.", "norm_out."),
        (r"^norm\.", "norm_in."),
        (r"^conv1d_encoder\.", "project_in."),
        (r"^pos_enc\.", "positions."),
        (r"^prelu\.", "split.0."),
        (r"^conv1d_out\.", "split.1."),
        (r"^output\.0\.", "content."),
        (r"^output_gate\.0\.", "gate."),
        (r"^conv1_decoder\.", "project_out."),
        (r"\.to_qk\.", ".to_query_key."),
        (r"\.to_out\.", ".to_output."),
        (r"\.qk_offset_scale\.gamma$", ".scale"),
        (r"\.qk_offset_scale\.beta$", ".offset"),
        (r"\.mdl\.0\.g$", ".norm.scale"),
        (r"\.mdl\.0\.", ".norm."),
        (r"\.mdl\.1\.", ".linear."),
        (r"\.mdl\.3\.sequential\.1\.conv\.", ".conv."),
        (r"\.memory\.conv1\.", ".memory.squeeze."),
        (r"\.memory\.norm1\.", ".memory.squeeze.2."),
        (r"\.memory\.norm2\.", ".memory.expand.0."),
        (r"\.memory\.conv2\.", ".memory.expand.1."),
        (r"\.gated_fsmn\.to_u\.", ".to_memory."),
        (r"\.gated_fsmn\.to_v\.", ".to_gate."),
        (r"\.gated_fsmn\.fsmn\.linear\.", ".memory.project.0."),
        (r"\.gated_fsmn\.fsmn\.project\.", ".memory.project.2."),
        (r"\.gated_fsmn\.fsmn\.conv\.(conv|norm)1\.", r".memory.\1."),
        (r"\.gated_fsmn\.fsmn\.conv\.prelu1\.", ".memory.activation."),
        (r"\.gated_fsmn\.fsmn\.conv\.(conv|norm)2\.", r".memory.pair_\1."),
        (r"\.gated_fsmn\.fsmn\.conv\.prelu2\.", ".memory.pair_activation."),
    )
]
_MAPPING_NAMES = ("mossformer2-whamr-2spk",)
"""Configurations whose network replaces the encoded mixture instead of masking it; no tensor shows it."""
_DECLARED = {
    "encoder_kernel_size": "kernel_size",
    "encoder_out_nchannels": "num_filters",
    "intra_numlayers": "num_blocks",
    "masknet_numspks": "num_sources",
    "num_spks": "num_sources",
}
"""Sizes that a configuration may state, and ours."""
_BUILT = {
    "masknet_norm": "ln",
    "masknet_extraskipconnection": True,
    "masknet_useextralinearlayer": False,
    "masknet_numlayers": 1,
}
"""Values of every published configuration. Other keys reach no part of a network."""


def is_mossformer2(state: Mapping[str, Any]) -> bool:
    """Whether these names are those of a published MossFormer2 for separation."""
    return any(re.search(r"(?:flashT|mossformerM)\.fsmn\.0\.", key) for key in state)


def convert_mossformer2(arguments: Mapping[str, Any], state: Mapping[str, Tensor]) -> Converted:
    """Convert a published MossFormer2.

    Args:
        arguments: The keys of ``config.json`` or of the ``model`` section of ``configuration.json``, and
            ``sample_rate``. All sizes but ``group_size``, which is 256, come from the tensors.
        state: The tensors, with or without ``module.``.

    Raises:
        CheckpointError: If a stated size or a constant contradicts the tensors.
        KeyError: If a tensor that shows a size is missing.
    """
    renamed = {native_name(key): value for key, value in state.items()}
    if len(renamed) < len(state):
        raise CheckpointError("two tensors take one place; the file mixes tensors with and without module.")
    frequencies = {key: renamed.pop(key) for key in list(renamed) if key.endswith(("freqs", "inv_freq"))}
    native = {key: native_shape(key, value) for key, value in renamed.items()}
    model = _sizes(native, frequencies)
    for theirs, ours in _DECLARED.items():
        if theirs in arguments and arguments[theirs] != model[ours]:
            raise CheckpointError(f"{theirs} is {arguments[theirs]!r}, the tensors have {model[ours]}.")
    for theirs, value in _BUILT.items():
        if arguments.get(theirs, value) != value:
            raise CheckpointError(f"{theirs}={arguments[theirs]!r} is not read, only {value!r}.")
    _check_frequencies(frequencies, {"freqs": model["rotary_dim"], "inv_freq": model["num_filters"]})
    native["rotation.rates"] = inverse_frequencies(model["rotary_dim"])
    if arguments.get("config_name") in _MAPPING_NAMES:
        model["output_mode"] = "map"
    return Converted({**model, "sample_rate": arguments["sample_rate"]}, native)


def native_name(key: str) -> str:
    """Our name of a published tensor."""
    for pattern, replacement in _RENAMES:
        key = pattern.sub(replacement, key)
    return key


def native_shape(key: str, value: Tensor) -> Tensor:
    """A published tensor in our shape.

    Args:
        key: Its name here.
        value: The tensor; 1x1 convolutions become matrices, two-dimensional filters one-dimensional.
    """
    if key.endswith(".pair_conv.weight"):  # [M, 2, K, 1] to [2 M, 1, K]
        return value.reshape(-1, 1, value.shape[2])
    if value.ndim == 4:  # [M, 1, K, 1]
        return value.squeeze(3)
    if value.ndim == 3 and value.shape[2] == 1 and not key.endswith("conv.weight"):
        return value.squeeze(2)
    return value


def _sizes(state: Mapping[str, Tensor], frequencies: Mapping[str, Tensor]) -> dict[str, Any]:
    filters, _, kernel = _shape(state, "encoder.weight", 3)
    attention, memory = "blocks.0.attention.", "blocks.0.memory."
    hidden = _shape(state, attention + "to_hidden.conv.weight", 3)
    query_key = _shape(state, attention + "scale", 2)[1]
    rotary = next((2 * value.numel() for key, value in frequencies.items() if key.endswith("freqs")), None)
    blocks = [int(key.split(".")[1]) for key in state if key.startswith("blocks.")]
    return {
        "model_type": "mossformer2",
        "num_sources": _shape(state, "split.1.weight", 2)[0] // filters,
        "num_filters": filters,
        "kernel_size": kernel,
        "num_blocks": max(blocks) + 1,
        "query_key_dim": query_key,
        "rotary_dim": rotary or min(32, query_key),
        "expansion_factor": hidden[0] // filters,
        "attention_kernel_size": hidden[2],
        "attention_norm": "scale" if attention + "to_hidden.norm.scale" in state else "layer",
        "memory_dim": _shape(state, memory + "squeeze.0.weight", 2)[0],
        "memory_order": (_shape(state, memory + "memory.conv.weight", 3)[2] + 1) // 2,
    }


def _shape(state: Mapping[str, Tensor], key: str, num_dimensions: int) -> list[int]:
    shape = list(state[key].shape)
    if len(shape) != num_dimensions or 0 in shape:
        raise CheckpointError(f"{key} is {shape}; expected {num_dimensions} dimensions, none of size 0.")
    return shape


def _check_frequencies(frequencies: Mapping[str, Tensor], sizes: Mapping[str, int]) -> None:
    for key, value in frequencies.items():
        expected = inverse_frequencies(sizes[key.rsplit(".", 1)[1]])
        tolerance = max(1e-4, torch.finfo(value.dtype).eps)  # half precision rounds more
        if value.shape != expected.shape or not torch.allclose(value.float(), expected, rtol=tolerance):
            raise CheckpointError(f"{key}: other frequencies than 10000^(-2i / {2 * len(expected)}).")


PARTS = ("encoder", "masknet", "decoder")
POINTER = "last_best_checkpoint"
"""A text file of ClearerVoice-Studio that names the file with the weights."""
_PART_FILES = [f"{part}.ckpt" for part in PARTS]
_FLAT = "pytorch_model.bin"
_SUFFIXES = ("*.bin", "*.pt", "*.pth")
_NOT_IN_TENSORS = {"group_size", "sample_rate", "output_mode", "shift_tokens", "dropout"}
"""Fields that no tensor shows."""


@register_reader
class ClearerVoiceReader(Reader):
    """Tensors named ``flashT`` or ``mossformerM``, in one file, in three, or in a training state."""

    format = "clearervoice"

    def recognises(self, files: WeightFiles) -> bool:
        return _single_file(files) is not None or _is_three_parts(files)

    def near_miss(self, files: WeightFiles) -> str | None:
        if files.main in (None, POINTER) and files.has(POINTER):
            name = _pointed(files)
            if name is None or not files.has(name):
                return f"{POINTER} names {name!r}, and that file is missing beside it."
            return f"{name} is of ClearerVoice-Studio, but not of its MossFormer2 for separation."
        return None

    def read(self, files: WeightFiles, config: Mapping[str, Any] | None) -> Converted:
        """Read and convert; ``config`` may give only what no tensor shows."""
        given = given_fields(config, _NOT_IN_TENSORS, str(files.path))
        state, name = _state(files)
        where = str(files.folder / name)
        # Published at 8 kHz: the authors' repositories and ModelScope's file; at 16 kHz: ClearerVoice's.
        arguments = _arguments(files, 8000 if _is_hub_layout(state) or name == _FLAT else 16000)
        if "config_name" not in arguments and "output_mode" not in given and _is_hub_layout(state):
            raise CheckpointError(
                f"{where}: config.json is missing; say whether the network masks or maps, "
                "config={'output_mode': 'mask'} or 'map'."
            )
        with naming(where):
            converted = convert_mossformer2(arguments, state)
        notes: dict[str, Any] = {key: arguments[key] for key in ("config_name", "type") if key in arguments}
        return Converted({**converted.model, **given, "model_type": "mossformer2"}, converted.state, notes)


def _single_file(files: WeightFiles) -> str | None:
    """The file with all tensors, if there is one."""
    if files.main in (None, POINTER) and files.has(POINTER):
        names = [name] if (name := _pointed(files)) is not None and files.has(name) else []
    else:
        names = files.candidates(*(_SUFFIXES if files.main else (_FLAT,)))
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


def _arguments(files: WeightFiles, published_rate: int) -> dict[str, Any]:
    """The configuration beside the tensors; the rate from a name where no file states it."""
    found: dict[str, Any] = {}
    if files.has("config.json"):
        found = _mapping(files, "config.json", files.json("config.json"))
    elif files.has("configuration.json"):
        content = _mapping(files, "configuration.json", files.json("configuration.json"))
        found = _mapping(files, "configuration.json", content.get("model", {}))
    if "sample_rate" not in found:
        named = re.search(r"_(8|16)k\b", f"{found.get('type', '')} {files.folder.resolve().name}", re.I)
        found["sample_rate"] = 1000 * int(named.group(1)) if named else published_rate
    return found


def _mapping(files: WeightFiles, name: str, content: Any) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise CheckpointError(f"{files.folder / name}: expected a mapping, got {type(content).__name__}.")
    return dict(content)
