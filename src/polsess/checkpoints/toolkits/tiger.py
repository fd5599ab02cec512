"""TIGER as its authors publish it: ``config.json`` with the constructor's arguments, ``model.safetensors``.

``PyTorchModelHubMixin`` writes these names; our own folders have them too, but another ``config.json``.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from polsess.checkpoints.formats import Converted, Reader, naming, register_reader
from polsess.checkpoints.translation import Arguments, rename, take
from polsess.checkpoints.unpickling import CheckpointError
from polsess.checkpoints.weight_files import WeightFiles, state_of
from polsess.models import parse_model_config
from polsess.models.tiger import TIGERConfig

_CONFIG = "config.json"
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_SIGNATURE = {"upsampling_depth", "att_hid_chan", "out_channels", "win"}
"""Arguments that no other model of this mixin has together."""
_WHERE = "TIGER"
_PATH_RULES = (
    (r"0\.proj_1x1\.conv\.(weight|bias)", r"u_block.expand.\1"),
    (r"0\.proj_1x1\.norm\.(weight|bias)", r"u_block.norm.\1"),
    (r"0\.proj_1x1\.act\.weight", r"u_block.activation.weight"),
    (r"0\.spp_dw\.(\d+)\.conv\.(weight|bias)", r"u_block.scales.\1.0.\2"),
    (r"0\.spp_dw\.(\d+)\.norm\.(weight|bias)", r"u_block.scales.\1.1.\2"),
    (r"0\.globalatt\.fc1\.conv\.weight", r"u_block.mixing.0.weight"),
    (r"0\.globalatt\.fc1\.norm\.(weight|bias)", r"u_block.mixing.1.\1"),
    (r"0\.globalatt\.dwconv\.(weight|bias)", r"u_block.mixing.2.\1"),
    (r"0\.globalatt\.fc2\.conv\.weight", r"u_block.mixing.5.weight"),
    (r"0\.globalatt\.fc2\.norm\.(weight|bias)", r"u_block.mixing.6.\1"),
    (r"0\.res_conv\.(weight|bias)", r"u_block.reduce.\1"),
    (r"1\.attn_concat_proj\.conv\.(weight|bias)", r"attention.output.0.\1"),
    (r"1\.attn_concat_proj\.act\.weight", r"attention.output.1.weight"),
    (r"1\.attn_concat_proj\.norm\.gamma", r"attention.output.2.weight"),
    (r"1\.attn_concat_proj\.norm\.beta", r"attention.output.2.bias"),
    (r"2\.gamma", r"norm.weight"),
    (r"2\.beta", r"norm.bias"),
    *(
        (rf"0\.{fusions}\.(\d+)\.{part}\.{kind}\.(\w+)", rf"u_block.{ours}.\1.{name}.{number}.\2")
        for fusions, ours in (("loc_glo_fus", "fusions"), ("last_layer", "expansions"))
        for part, name in {
            "local_embedding": "local",
            "global_act": "gate",
            "global_embedding": "shift",
        }.items()
        for kind, number in (("conv", 0), ("norm", 1))
    ),
)
_RULES = [
    (r"separator\.concat_block\.0\.weight", "scale"),
    (r"separator\.concat_block\.0\.bias", "offset"),
    (r"separator\.concat_block\.1\.weight", "activation.weight"),
    *(
        (rf"separator\.{theirs}_path\.{pattern}", rf"{ours}_path.{name}")
        for theirs, ours in (("freq", "frequency"), ("frame", "time"))
        for pattern, name in _PATH_RULES
    ),
]


def convert_tiger(arguments: Mapping[str, Any], state: Mapping[str, Tensor]) -> Converted:
    """Convert TIGER.

    Args:
        arguments: The constructor's.
        state: The tensors.

    Raises:
        CheckpointError: If an argument is missing or unknown, or a tensor is missing or left over.
    """
    taken = Arguments(arguments, _WHERE)
    model = {
        "model_type": "tiger",
        "num_features": taken.take("out_channels"),
        "hidden_features": taken.take("in_channels"),
        "num_blocks": taken.take("num_blocks"),
        "depth": taken.take("upsampling_depth"),
        "num_heads": taken.take("att_n_head"),
        "query_key_features": taken.take("att_hid_chan"),
        "n_fft": taken.take("win"),
        "hop_length": taken.take("stride"),
        "num_sources": taken.take("num_sources"),
        "sample_rate": taken.take("sample_rate"),
    }
    taken.ignore("att_kernel_size", "att_stride")  # the network has no use for them
    taken.finish()
    config = parse_model_config(model)
    assert isinstance(config, TIGERConfig)
    left = dict(state)
    native = {**_take_bands(left, config), **_take_heads(left, config)}
    native |= {key: _without_taps(key, value) for key, value in rename(left, _RULES, _WHERE).items()}
    return Converted(model, native)


def _take_bands(state: dict[str, Tensor], config: TIGERConfig) -> dict[str, Tensor]:
    """Bands of one width as one tensor."""
    native: dict[str, Tensor] = {}
    start = 0
    for index, (_, same) in enumerate(itertools.groupby(config.band_widths)):
        stop = start + len([*same])

        def stack(name: str, bands: range = range(start, stop)) -> Tensor:
            return torch.stack([take(state, name.format(band), _WHERE) for band in bands])

        native |= {
            f"encoders.{index}.norm_weight": stack("BN.{}.0.weight"),
            f"encoders.{index}.norm_bias": stack("BN.{}.0.bias"),
            f"encoders.{index}.weight": stack("BN.{}.1.weight").squeeze(-1),
            f"encoders.{index}.bias": stack("BN.{}.1.bias"),
            f"masks.{index}.slope": stack("mask.{}.0.weight"),
            f"masks.{index}.weight": stack("mask.{}.1.weight")
            .squeeze(-1)
            .unflatten(1, (config.num_sources, -1)),
            f"masks.{index}.bias": stack("mask.{}.1.bias"),
        }
        start = stop
    return native


def _take_heads(state: dict[str, Tensor], config: TIGERConfig) -> dict[str, Tensor]:
    """The heads of an attention as one projection each for queries, keys and values."""
    native: dict[str, Tensor] = {}
    for theirs, ours in (("freq", "frequency"), ("frame", "time")):
        for kind, name in (("Queries", "query"), ("Keys", "key"), ("Values", "value")):
            prefix = f"separator.{theirs}_path.1.{kind}"
            heads = [
                [take(state, f"{prefix}.{head}.{part}", _WHERE) for head in range(config.num_heads)]
                for part in ("conv.weight", "conv.bias", "act.weight", "norm.gamma", "norm.beta")
            ]
            target = f"{ours}_path.attention.{name}"
            native |= {
                f"{target}.linear.weight": torch.cat(heads[0]).flatten(1),
                f"{target}.linear.bias": torch.cat(heads[1]),
                f"{target}.slope": torch.stack(heads[2]),
                f"{target}.norm_weight": torch.stack(heads[3]).flatten(1),
                f"{target}.norm_bias": torch.stack(heads[4]).flatten(1),
            }
    return native


def _without_taps(key: str, value: Tensor) -> Tensor:
    """Filters of length one as matrices, affine maps of channels as vectors."""
    if key.endswith(("expand.weight", "reduce.weight", "output.0.weight")):
        return value.flatten(1)
    flat = key == "scale" or ".norm." in key or ".output.2." in key or key.startswith("norm.")
    return value.flatten() if flat else value


@register_reader
class TIGERReader(Reader):
    """The hub's folder."""

    format = "tiger"
    tensors: ClassVar = {
        r"^(audio_model\.)?separator\.freq_path\.0\.proj_1x1\.": (
            "TIGER, which is read from model.safetensors beside a config.json with its arguments"
        )
    }
    refused: ClassVar = {
        r"\.Queries_noise\.": (
            "UNMIXX, which is TIGER with a reverse attention for singers and none of the networks here"
        )
    }

    def recognises(self, files: WeightFiles) -> bool:
        named = files.main in (None, _CONFIG, *_WEIGHTS)
        return named and files.has(_CONFIG) and _is_tiger(files.json(_CONFIG)) and _weights(files) is not None

    def read(self, files: WeightFiles, config: Mapping[str, Any] | None) -> Converted:
        where, name = str(files.folder / _CONFIG), _weights(files)
        assert name is not None
        if config is not None:
            raise CheckpointError(f"{where}: holds the configuration; leave config out.")
        safe = name.endswith(".safetensors")
        state = (
            files.safetensors(name) if safe else state_of(files.torch_dict(name), str(files.folder / name))
        )
        with naming(where):
            return convert_tiger(files.json(_CONFIG), state)


def _is_tiger(content: Any) -> bool:
    return isinstance(content, Mapping) and content.keys() >= _SIGNATURE


def _weights(files: WeightFiles) -> str | None:
    return next((name for name in _WEIGHTS if files.main in (None, _CONFIG, name) and files.has(name)), None)
