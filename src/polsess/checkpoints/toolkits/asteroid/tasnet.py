"""Asteroid's ``ConvTasNet`` and ``LSTMTasNet``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from polsess.checkpoints.formats import Converted
from polsess.checkpoints.toolkits.asteroid.reader import (
    CONVERTERS,
    FILTERBANK_RULES,
    read_filterbank,
    read_mask_activation,
)
from polsess.checkpoints.translation import Arguments, Rule, rename, take
from polsess.checkpoints.unpickling import CheckpointError

MASKS = {name: name for name in ("relu", "sigmoid", "softmax", "tanh", "linear")}
"""``mask_act`` of the networks whose softmax runs over the sources."""

_NORMS = {"gLN": "gLN", "cLN": "cLN", "cgLN": "cgLN"}
_BLOCK = r"masker\.TCN\.(\d+)\."
_PARTS = ["expand", "expand_prelu", "expand_norm", "depthwise", "depthwise_prelu", "depthwise_norm"]
_CONVTASNET_RULES: list[Rule] = [
    *FILTERBANK_RULES,
    (r"masker\.bottleneck\.0\.gamma", "input_norm.weight"),
    (r"masker\.bottleneck\.0\.beta", "input_norm.bias"),
    (r"masker\.bottleneck\.1\.(weight|bias)", r"bottleneck.\1"),
    (r"masker\.mask_net\.0\.weight", "mask_prelu.weight"),
    (r"masker\.mask_net\.1\.(weight|bias)", r"to_masks.\1"),
    *[
        (_BLOCK + rf"shared_block\.{index}\.{foreign}", rf"blocks.\1.{part}.{ours}")
        for index, part in enumerate(_PARTS)
        for foreign, ours in [("weight|gamma", "weight"), ("bias|beta", "bias")]
        for foreign in foreign.split("|")
    ],
    # In causal networks a layer that cuts the end follows the convolution, the two in a module of their own.
    (_BLOCK + r"shared_block\.3\.0\.(weight|bias)", r"blocks.\1.depthwise.\2"),
    (_BLOCK + r"(res_conv|skip_conv)\.(weight|bias)", r"\1.\2.\3"),
]


@CONVERTERS.register("ConvTasNet")
def convert_convtasnet(arguments: Mapping[str, Any], state: Mapping[str, Tensor]) -> Converted:
    """Convert; a causal network with the norm gLN was built with cLN."""
    where = "Asteroid ConvTasNet"
    values = Arguments(arguments, where)
    causal, norm = values.take("causal", default=False), values.choose("norm_type", _NORMS, default="gLN")
    num_blocks, num_repeats = values.take("n_blocks", default=8), values.take("n_repeats", default=3)
    skip_channels = values.take("skip_chan", default=128) or 0
    model = {
        "model_type": "convtasnet",
        "num_sources": values.take("n_src"),
        "bottleneck_channels": values.take("bn_chan", default=128),
        "hidden_channels": values.take("hid_chan", default=512),
        "skip_channels": skip_channels,
        "conv_kernel_size": values.take("conv_kernel_size", default=3),
        "num_blocks": num_blocks,
        "num_repeats": num_repeats,
        "norm": "cLN" if causal and norm == "gLN" else norm,
        "causal": causal,
        "mask_activation": values.choose("mask_act", MASKS, default="relu"),
        **read_filterbank(values, where),
    }
    values.finish()
    renamed = rename(state, _CONVTASNET_RULES, where)
    for block in range(num_blocks * num_repeats):
        for kind in ("weight", "bias"):
            parts = [take(renamed, f"{block}.res_conv.{kind}", where)]
            if skip_channels:
                parts.append(take(renamed, f"{block}.skip_conv.{kind}", where))
            renamed[f"blocks.{block}.outputs.{kind}"] = torch.cat(parts)
    return Converted(model, renamed)


_COPY = "encoder.encoder_relu.filterbank._filters"
_LSTM_TASNET_RULES: list[Rule] = [
    (r"encoder\.filterbank\._filters", "encoder.conv.weight"),
    (r"encoder\.encoder_sig\.filterbank\._filters", "encoder.gate.weight"),
    (r"decoder\.filterbank\._filters", "decoder.conv.weight"),
    (r"masker\.bn_layer\.gamma", "norm.weight"),
    (r"masker\.bn_layer\.beta", "norm.bias"),
    (r"masker\.masker\.0\.rnn\.(.+)", r"rnn.rnn.\1"),
    (r"masker\.masker\.1\.(weight|bias)", r"to_masks.\1"),
]


@CONVERTERS.register("LSTMTasNet")
def convert_lstm_tasnet(arguments: Mapping[str, Any], state: Mapping[str, Tensor]) -> Converted:
    """Convert; the cell is an LSTM whatever ``rnn_type`` says, and a softmax ran over the frames."""
    where = "Asteroid LSTMTasNet"
    values = Arguments(arguments, where)
    values.ignore("rnn_type")
    num_layers, dropout = values.take("n_layers", default=4), values.take("dropout", default=0.3)
    filterbank = read_filterbank(values, where, num_filters=64)
    if filterbank.pop("encoder_activation") != "linear":
        raise CheckpointError(f"{where}: an encoder_activation after the gate is not read.")
    model = {
        "model_type": "lstmtasnet",
        "num_sources": values.take("n_src"),
        "hidden_size": values.take("hid_size", default=512),
        "num_layers": num_layers,
        "bidirectional": values.take("bidirectional", default=True),
        "dropout": 0.0 if num_layers == 1 else dropout,  # it acts between layers only
        "mask_activation": read_mask_activation(values, "sigmoid", softmax="frame_softmax"),
        **filterbank,
    }
    values.finish()
    kept = {key: value for key, value in state.items() if key != _COPY}
    return Converted(model, rename(kept, _LSTM_TASNET_RULES, where))
