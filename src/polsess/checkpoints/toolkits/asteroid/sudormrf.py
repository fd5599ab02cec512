"""Asteroid's ``SuDORMRFNet`` and ``SuDORMRFImprovedNet``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from polsess.checkpoints.formats import Converted
from polsess.checkpoints.toolkits.asteroid.filterbank import filters_rules, read_filterbank, rename_network
from polsess.checkpoints.toolkits.asteroid.reader import (
    CONVERTERS,
    read_mask_activation,
    source_softmax,
)
from polsess.checkpoints.translation import Arguments, Rule
from polsess.checkpoints.unpickling import CheckpointError

_COPY = "encoder.filterbank."
_KINDS = [("weight", "weight"), ("bias", "bias"), ("gamma", "weight"), ("beta", "bias")]
_MODULES = {
    r"masker\.ln": "norm",
    r"masker\.(?:l1|bottleneck)": "bottleneck",
    r"masker\.sm\.(\d+)\.proj_1x1\.conv": r"blocks.\1.expand.conv",
    r"masker\.sm\.(\d+)\.proj_1x1\.norm": r"blocks.\1.expand.norm",
    r"masker\.sm\.(\d+)\.proj_1x1\.act": r"blocks.\1.expand.activation",
    r"masker\.sm\.(\d+)\.spp_dw\.(\d+)\.(conv|norm)": r"blocks.\1.scales.\2.\3",
    r"masker\.sm\.(\d+)\.final_norm\.norm": r"blocks.\1.merged_norm",
    r"masker\.sm\.(\d+)\.final_norm\.act": r"blocks.\1.merged_activation",
    r"masker\.sm\.(\d+)\.conv_1x1_exp\.(conv|norm)": r"blocks.\1.reduce.\2",
    r"masker\.sm\.(\d+)\.module_act\.norm": r"blocks.\1.output.0",
    r"masker\.sm\.(\d+)\.module_act\.act": r"blocks.\1.output.1",
    r"masker\.sm\.(\d+)\.res_conv": r"blocks.\1.reduce",
    r"masker\.reshape_before_masks": "to_masks.expand",
    r"masker\.m": "to_masks",
    r"masker\.mask_net\.([01])": r"to_masks.\1",
    r"masker\.output_act": "nonlinearity",
}
_RULES: list[Rule] = [
    *filters_rules(r"encoder\.encoder", "encoder.conv"),
    *filters_rules("decoder", "decoder.conv"),
    *[
        (rf"{foreign}\.{kind}", f"{ours}.{our_kind}")
        for foreign, ours in _MODULES.items()
        for kind, our_kind in _KINDS
    ],
]


@CONVERTERS.register("SuDORMRFNet")
def convert_original(arguments: Mapping[str, Any], state: Mapping[str, Tensor]) -> Converted:
    """Convert the original; its encoder is always rectified, and a given stride was ignored."""
    values = Arguments(arguments, "Asteroid SuDORMRFNet")
    values.ignore("stride")
    return _convert(values, state, "original", activation="relu", mask_default="softmax")


@CONVERTERS.register("SuDORMRFImprovedNet")
def convert_improved(arguments: Mapping[str, Any], state: Mapping[str, Tensor]) -> Converted:
    """Convert the improved network; its encoder is always linear."""
    values = Arguments(arguments, "Asteroid SuDORMRFImprovedNet")
    return _convert(values, state, "improved", activation="linear", mask_default="relu")


def _convert(
    values: Arguments, state: Mapping[str, Tensor], variant: str, *, activation: str, mask_default: str
) -> Converted:
    where = f"Asteroid SuDORMRF ({variant})"
    filterbank = read_filterbank(values, where, activation, kernel_size=21)
    if filterbank.pop("encoder_activation") != activation:
        raise CheckpointError(f"{where}: its encoder is {activation}, the file says another.")
    stride, half = filterbank.pop("stride"), filterbank["kernel_size"] // 2
    if stride != half:
        raise CheckpointError(f"{where}: stride {stride} is not read, only half a filter, {half}.")
    num_sources = values.take("n_src")
    softmax = source_softmax(num_sources)
    model = {
        "model_type": "sudormrf",
        "variant": variant,
        "num_sources": num_sources,
        "bottleneck_channels": values.take("bn_chan", default=128),
        "block_channels": filterbank["num_filters"],
        "num_blocks": values.take("num_blocks", default=16),
        "depth": values.take("upsampling_depth", default=4),
        "mask_activation": read_mask_activation(values, mask_default, softmax=softmax),
        **filterbank,
    }
    values.finish()
    kept = {key: value for key, value in state.items() if not key.startswith(_COPY)}
    renamed = rename_network(kept, _RULES, model, where)
    return Converted(model, {key: _reshaped(key, value) for key, value in renamed.items()})


def _reshaped(key: str, value: Tensor) -> Tensor:
    """Filters of blocks have a spare dimension here, the filter of the masks has none."""
    if key.startswith("blocks.") and value.ndim == 3:
        return value.unsqueeze(2)
    return value.flatten(1) if key == "to_masks.weight" else value
