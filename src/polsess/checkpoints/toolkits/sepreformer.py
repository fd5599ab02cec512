"""SepReformer as its authors' trainer writes it: ``epoch.NNNN.pth`` with ``configs.yaml``.

Sizes are read from the tensors; the YAML gives what no tensor shows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from polsess.checkpoints.formats import Converted, Reader, given_fields, naming, register_reader
from polsess.checkpoints.unpickling import CheckpointError
from polsess.checkpoints.weight_files import WeightFiles, state_of

_RENAMES = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"^module\.", ""),
        (r"^separator\.", ""),
        (r"^audio_encoder\.conv1d\.", "encoder."),
        (r"^feature_projector\.norm\.", "norm."),
        (r"^feature_projector\.conv1d\.", "project."),
        (r"^pos_emb\.pe_k\.weight$", "distances"),
        (r"^enc_stages\.(\d+)\.downconv\.down_conv\.", r"halvings.\1.conv."),
        (r"^enc_stages\.(\d+)\.downconv\.BN\.", r"halvings.\1.norm."),
        (r"^enc_stages\.", "down_stages."),
        (r"^dec_stages\.", "up_stages."),
        (r"^bottleneck_G\.", "bottom."),
        (r"^spk_split_block\.", "splits.0."),
        (r"^spk_split_blocks\.", "splits."),
        (r"^(splits\.\d+)\.linear\.", r"\1.layers."),
        (r"^simple_fusion\.(\d+)\.", r"fusions.\1.linear."),
        (r"^out_layer\.end_conv1x1\.", "output.layers."),
        (r"^out_layer_bn\.(\d+)\.end_conv1x1\.", r"auxiliary.\1.layers."),
        (r"^audio_decoder\.", "output.decoder."),
        (r"^decoder_bn\.(\d+)\.", r"auxiliary.\1.decoder."),
        (r"\.block\.ega\.block\.self_attn\.", ".attention."),
        (r"\.block\.ega\.block\.linear\.", ".gate."),
        (r"\.self_attn\.", ".attention."),
        (r"\.block\.gcfn\.", ".feed_forward."),
        (r"\.block\.cla\.", "."),
        (r"\.Layer_scale\.layer_scale$", ".scale"),
        (r"\.layer_norm\.", ".norm."),
        (r"\.attention\.linear_(q|k|v|out)\.", r".attention.\1."),
        (r"\.net1\.", ".expand."),
        (r"\.net2\.", ".reduce."),
        (r"\.depthwise\.", ".conv."),
        (r"\.linear1\.", ".gated."),
        (r"\.dw_conv_1d\.", ".conv."),
        (r"(\.l_block_\d)\.linear2\.", r"\1.expand."),
        (r"\.linear3\.", ".reduce."),
        (r"\.BN\.", ".batch_norm."),
    )
]
_BLOCK = re.compile(r"\.(g_block|l_block|spk_attn)_(\d+)\.")
_BLOCKS = {"g_block": "global_blocks", "l_block": "local_blocks", "spk_attn": "speaker_blocks"}


def is_sepreformer(state: Mapping[str, Any]) -> bool:
    """Whether these names are those of a SepReformer."""
    return any("separator.bottleneck_G.g_block_1." in key for key in state)


def convert_sepreformer(arguments: Mapping[str, Any], state: Mapping[str, Tensor]) -> Converted:
    """Convert a SepReformer of the authors' trainer.

    Args:
        arguments: ``stride`` and ``sample_rate``, which no tensor shows.
        state: The tensors, with or without ``module.``.

    Raises:
        CheckpointError: If a tensor that shows a size has an unexpected shape.
        KeyError: If one is missing.
    """
    split: dict[str, Tensor] = {}
    for key, value in state.items():
        name = native_name(key)
        if name in split:
            raise CheckpointError(f"two tensors take the place of {name}, one is {key}.")
        split[name] = _native_shape(name, value)
    native = _with_joined_projections(split)
    return Converted({**_sizes(native), **arguments}, native)


def native_name(key: str) -> str:
    """Our name of a published tensor; queries, keys and values still apart as ``q``, ``k`` and ``v``."""
    for pattern, replacement in _RENAMES:
        key = pattern.sub(replacement, key)
    return _BLOCK.sub(lambda found: f".{_BLOCKS[found[1]]}.{int(found[2]) - 1}.", key)


def _native_shape(name: str, value: Tensor) -> Tensor:
    if name.endswith(".scale"):  # [1, 1, F]
        return value.flatten()
    one_tap = value.ndim == 3 and value.shape[2] == 1
    return value.squeeze(2) if one_tap and name.startswith(("project.", "splits.", "fusions.")) else value


def _with_joined_projections(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Queries, keys and values as one matrix."""
    joined = {}
    for key, value in state.items():
        if ".attention.q." in key:
            parts = [value, *(state[key.replace(".q.", f".{part}.")] for part in "kv")]
            if any(part.shape[1:] != value.shape[1:] or part.ndim == 0 for part in parts):
                raise CheckpointError(f"{key}: queries, keys and values differ in size.")
            joined[key.replace(".q.", ".qkv.")] = torch.cat(parts)
        elif ".attention.k." not in key and ".attention.v." not in key:
            joined[key] = value
    return joined


def _sizes(state: Mapping[str, Tensor]) -> dict[str, Any]:
    filters, _, kernel = _shape(state, "encoder.weight", 3)
    features = _shape(state, "project.weight", 2)[0]
    num_positions, head_features = _shape(state, "distances", 2)
    local = "bottom.local_blocks.0.conv.weight"
    return {
        "model_type": "sepreformer",
        "num_sources": _shape(state, "splits.0.layers.0.weight", 2)[0] // (4 * features),
        "num_filters": filters,
        "kernel_size": kernel,
        "num_features": features,
        "num_stages": len({key.split(".")[1] for key in state if key.startswith("halvings.")}),
        "num_heads": features // head_features,
        "max_distance": num_positions // 2,
        "local_kernel_size": _shape(state, local, 3)[2],
        "sampling_kernel_size": _shape(state, "halvings.0.conv.weight", 3)[2],
        "shared_split": not any(key.startswith("splits.1.") for key in state),
    }


def _shape(state: Mapping[str, Tensor], key: str, num_dimensions: int) -> list[int]:
    shape = list(state[key].shape)
    if len(shape) != num_dimensions or 0 in shape:
        raise CheckpointError(f"{key} is {shape}; expected {num_dimensions} dimensions, none of size 0.")
    return shape


_CONFIGS = ("configs.yaml", "../../configs.yaml")
"""Places of the YAML: beside the weights, or two folders above the trainer's ``log/scratch_weights``."""
_NOT_IN_TENSORS = ("stride", "sample_rate", "dropout")
"""Fields that no tensor shows."""


@register_reader
class SepReformerReader(Reader):
    """``model_state_dict`` beside the losses of an epoch; of several epochs in a folder the last."""

    format = "sepreformer"
    tensors: ClassVar = {
        r"^(separator\.)+bottleneck_G\.": "a SepReformer, which is read from its trainer's epoch.NNNN.pth"
    }

    def recognises(self, files: WeightFiles) -> bool:
        return _weights(files) is not None

    def read(self, files: WeightFiles, config: Mapping[str, Any] | None) -> Converted:
        """Read and convert; ``config`` may give what no tensor shows, where ``configs.yaml`` is missing."""
        name = _weights(files)
        assert name is not None
        where, content = str(files.folder / name), files.torch_dict(name)
        state, given = state_of(content["model_state_dict"], where), _given(files, config)
        with naming(where):
            arguments = {**_arguments(files), **given}
            converted = convert_sepreformer(arguments, state)
        keys = ("epoch", "train_loss", "valid_loss")
        notes: dict[str, Any] = {
            key: content[key] for key in keys if isinstance(content.get(key), int | float)
        }
        return Converted(converted.model, converted.state, notes)


def _weights(files: WeightFiles) -> str | None:
    """The file with the weights: the named one, or the last epoch of a folder."""
    names = files.candidates("*.pth" if files.main else "epoch.*.pth")
    for name in reversed(names):
        content = files.torch_file(name)
        inner = content.get("model_state_dict") if isinstance(content, dict) else None
        if isinstance(inner, Mapping) and is_sepreformer({str(key): None for key in inner}):
            return name
    return None


def _given(files: WeightFiles, config: Mapping[str, Any] | None) -> dict[str, Any]:
    given = given_fields(config, _NOT_IN_TENSORS, str(files.path))
    if given and _config_name(files) is not None:
        raise CheckpointError(f"{files.path}: configs.yaml holds the configuration; leave config out.")
    if not given and _config_name(files) is None:
        raise CheckpointError(
            f"{files.path}: configs.yaml is missing; pass what no tensor shows, e.g. "
            "config={'stride': 4, 'sample_rate': 8000}."
        )
    return given


def _arguments(files: WeightFiles) -> dict[str, Any]:
    """Fields of ``configs.yaml`` that no tensor shows."""
    name = _config_name(files)
    if name is None:
        return {}
    content = files.yaml(name)
    encoder = _value(content, "config", "model", "module_audio_enc")
    stride = _value(encoder, "stride")
    if stride is None:
        raise CheckpointError(f"{name}: config.model.module_audio_enc.stride is missing.")
    found = {"stride": stride}
    rate = _value(content, "config", "dataset", "sampling_rate")
    dropout = _value(
        content, "config", "model", "module_separator", "enc_stage", "local_blocks", "dropout_rate"
    )
    return found | {k: v for k, v in (("sample_rate", rate), ("dropout", dropout)) if v is not None}


def _config_name(files: WeightFiles) -> str | None:
    return next((name for name in _CONFIGS if files.has(name)), None)


def _value(content: Any, *path: str) -> Any:
    for key in path:
        content = content.get(key) if isinstance(content, Mapping) else None
    return content
