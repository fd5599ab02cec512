"""Asteroid's ``ConvTasNet`` and ``LSTMTasNet``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from polsess.checkpoints.formats import Converted
from polsess.checkpoints.toolkits.asteroid.filterbank import (
    FILTERBANK_RULES,
    filters_rules,
    read_filterbank,
    rename_network,
)
from polsess.checkpoints.toolkits.asteroid.reader import (
    CONVERTERS,
    NORMS,
    norm_rules,
    read_mask_activation,
    source_softmax,
)
from polsess.checkpoints.translation import Arguments, Rule, take
from polsess.checkpoints.unpickling import CheckpointError

_BLOCK = r"masker\.TCN\.(\d+)\."
_PARTS = ["expand", "expand_prelu", "expand_norm", "depthwise", "depthwise_prelu", "depthwise_norm"]
_CONVTASNET_RULES: list[Rule] = [
    *FILTERBANK_RULES,
    *norm_rules(r"masker\.bottleneck\.0", "input_norm"),
    (r"masker\.bottleneck\.1\.(weight|bias)", r"bottleneck.\1"),
    (r"masker\.mask_net\.0\.weight", "mask_prelu.weight"),
    (r"masker\.mask_net\.1\.(weight|bias)", r"to_masks.\1"),
    (r"masker\.output_act\.weight", "nonlinearity.weight"),
    *[
        rule
        for index, part in enumerate(_PARTS)
        for rule in norm_rules(_BLOCK + rf"shared_block\.{index}", rf"blocks.\1.{part}")
    ],
    # In causal networks a layer that cuts the end follows the convolution, the two in a module of their own.
    (_BLOCK + r"shared_block\.3\.0\.(weight|bias)", r"blocks.\1.depthwise.\2"),
    (_BLOCK + r"(res_conv|skip_conv)\.(weight|bias)", r"\1.\2.\3"),
]


@CONVERTERS.register("ConvTasNet")
def convert_convtasnet(arguments: Mapping[str, Any], state: Mapping[str, Tensor]) -> Converted:
    """Convert; a causal network whose norm was not causal was built with cLN."""
    where = "Asteroid ConvTasNet"
    values = Arguments(arguments, where)
    causal, norm = values.take("causal", default=False), values.choose("norm_type", NORMS, default="gLN")
    num_blocks, num_repeats = values.take("n_blocks", default=8), values.take("n_repeats", default=3)
    skip_channels = values.take("skip_chan", default=128) or 0
    num_sources, kernel_size = values.take("n_src"), values.take("conv_kernel_size", default=3)
    if causal and kernel_size == 1:
        raise CheckpointError(f"{where}: conv_kernel_size=1 with causal=True left no frames there.")
    model = {
        "model_type": "convtasnet",
        "num_sources": num_sources,
        "bottleneck_channels": values.take("bn_chan", default=128),
        "hidden_channels": values.take("hid_chan", default=512),
        "skip_channels": skip_channels,
        "conv_kernel_size": kernel_size,
        "num_blocks": num_blocks,
        "num_repeats": num_repeats,
        "norm": "cLN" if causal and norm != "cgLN" else norm,
        "causal": causal,
        "mask_activation": read_mask_activation(values, "relu", softmax=source_softmax(num_sources)),
        **read_filterbank(values, where),
    }
    values.finish()
    renamed = rename_network(state, _CONVTASNET_RULES, model, where)
    for block in range(num_blocks * num_repeats):
        for kind in ("weight", "bias"):
            parts = [take(renamed, f"{block}.res_conv.{kind}", where)]
            if skip_channels:
                parts.append(take(renamed, f"{block}.skip_conv.{kind}", where))
            renamed[f"blocks.{block}.outputs.{kind}"] = torch.cat(parts)
    return Converted(model, renamed)


_COPIES = ("encoder.encoder_relu.", "masker.output_act.")
"""Modules whose tensors the files hold twice."""
_LSTM_TASNET_RULES: list[Rule] = [
    *FILTERBANK_RULES,
    *filters_rules(r"encoder\.encoder_sig", "encoder.gate"),
    (r"masker\.bn_layer\.gamma", "norm.weight"),
    (r"masker\.bn_layer\.beta", "norm.bias"),
    (r"masker\.masker\.0\.rnn\.(.+)", r"rnn.rnn.\1"),
    (r"masker\.masker\.1\.(weight|bias)", r"to_masks.\1"),
    (r"masker\.masker\.2\.weight", "nonlinearity.weight"),
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
    kept = {key: value for key, value in state.items() if not key.startswith(_COPIES)}
    return Converted(model, rename_network(kept, _LSTM_TASNET_RULES, model, where))
