"""Asteroid's ``DPRNNTasNet`` and ``DPTNet``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from polsess.checkpoints.formats import Converted
from polsess.checkpoints.toolkits.asteroid.reader import (
    CONVERTERS,
    FILTERBANK_RULES,
    GATED_RULES,
    read_filterbank,
    read_mask_activation,
    source_softmax,
)
from polsess.checkpoints.translation import Arguments, Rule, join_gates, rename, without_unit_dimensions

_DPRNN_NORMS = {"gLN": "gLN", "cLN": "cLN"}
_CELLS = {name: cell for cell in ("LSTM", "GRU", "RNN") for name in (cell, cell.lower())}
_DPRNN_RULES: list[Rule] = [
    *FILTERBANK_RULES,
    *GATED_RULES,
    (r"masker\.bottleneck\.0\.gamma", "input_norm.weight"),
    (r"masker\.bottleneck\.0\.beta", "input_norm.bias"),
    (r"masker\.bottleneck\.1\.(weight|bias)", r"bottleneck.\1"),
    (r"masker\.net\.(\d+)\.(intra|inter)_RNN\.rnn\.(.+)", r"blocks.\1.\2.0.rnn.\3"),
    (r"masker\.net\.(\d+)\.(intra|inter)_RNN\.rnn1\.(.+)", r"blocks.\1.\2.0.factors.0.rnn.\3"),
    (r"masker\.net\.(\d+)\.(intra|inter)_RNN\.rnn2\.(.+)", r"blocks.\1.\2.0.factors.1.rnn.\3"),
    (r"masker\.net\.(\d+)\.(intra|inter)_linear\.(weight|bias)", r"blocks.\1.\2.1.\3"),
    (r"masker\.net\.(\d+)\.(intra|inter)_norm\.gamma", r"blocks.\1.\2_norm.weight"),
    (r"masker\.net\.(\d+)\.(intra|inter)_norm\.beta", r"blocks.\1.\2_norm.bias"),
    (r"masker\.mask_net\.weight", "to_masks.to_masks.weight"),
]


@CONVERTERS.register("DPRNNTasNet")
def convert_dprnn(arguments: Mapping[str, Any], state: Mapping[str, Tensor]) -> Converted:
    """Convert; a softmax ran over the filters."""
    where = "Asteroid DPRNNTasNet"
    values = Arguments(arguments, where)
    num_layers, dropout = values.take("num_layers", default=1), values.take("dropout", default=0)
    model = {
        "model_type": "dprnn",
        "num_sources": values.take("n_src"),
        "bottleneck_channels": values.take("bn_chan", default=128),
        "hidden_size": values.take("hid_size", default=128),
        "num_layers": num_layers,
        "rnn_type": values.choose("rnn_type", _CELLS, default="LSTM"),
        "multiplicative": values.take("use_mulcat", default=False),
        "inter_bidirectional": values.take("bidirectional", default=True),
        "num_blocks": values.take("n_repeats", default=6),
        "chunk_size": values.take("chunk_size", default=100),
        "hop_size": values.take("hop_size", default=None),
        "norm": values.choose("norm_type", _DPRNN_NORMS, default="gLN"),
        "dropout": 0.0 if num_layers == 1 else dropout,  # it acts between layers only
        "mask_activation": read_mask_activation(values, "sigmoid", softmax="filter_softmax"),
        **read_filterbank(values, where, num_filters=64),
    }
    values.finish()
    renamed = rename(state, _DPRNN_RULES, where)
    return Converted(model, join_gates(without_unit_dimensions(renamed), where, "to_masks."))


_DPTNET_NORMS = {"gLN": "gLN", "cLN": "cLN", "cgLN": "cgLN"}
_ELEMENTWISE = ["relu", "leaky_relu", "gelu", "sigmoid", "tanh", "linear"]
_ACTIVATIONS = {name: name for name in _ELEMENTWISE} | {"swish": "silu"}
_LAYER = r"masker\.layers\.(\d+)\."
_PATHS = {"0": "intra", "1": "inter"}
_DPTNET_RULES: list[Rule] = [
    *FILTERBANK_RULES,
    *GATED_RULES,
    (r"masker\.input_layer\.(weight|bias)", r"widen.\1"),
    (r"masker\.in_norm\.gamma", "input_norm.weight"),
    (r"masker\.in_norm\.beta", "input_norm.bias"),
    *[
        (_LAYER + foreign, rf"blocks.\1.{path}.{ours}")
        for number, path in _PATHS.items()
        for foreign, ours in [
            (rf"{number}\.mha\.in_proj_(weight|bias)", r"attention.qkv.\2"),
            (rf"{number}\.mha\.out_proj\.(weight|bias)", r"attention.out.\2"),
            (rf"{number}\.recurrent\.(.+)", r"rnn.rnn.\2"),
            (rf"{number}\.linear\.(weight|bias)", r"project.\2"),
            (rf"{number}\.norm_mha\.gamma", "attention_norm.weight"),
            (rf"{number}\.norm_mha\.beta", "attention_norm.bias"),
            (rf"{number}\.norm_ff\.gamma", "feed_forward_norm.weight"),
            (rf"{number}\.norm_ff\.beta", "feed_forward_norm.bias"),
        ]
    ],
]


@CONVERTERS.register("DPTNet")
def convert_dptnet(arguments: Mapping[str, Any], state: Mapping[str, Tensor]) -> Converted:
    """Convert; a softmax over a single source is one whatever the input."""
    where = "Asteroid DPTNet"
    values = Arguments(arguments, where)
    num_sources = values.take("n_src")
    softmax = source_softmax(num_sources)
    model = {
        "model_type": "dptnet",
        "num_sources": num_sources,
        "num_heads": values.take("n_heads", default=4),
        "hidden_size": values.take("ff_hid", default=256),
        "activation": values.choose("ff_activation", _ACTIVATIONS, default="relu"),
        "inter_bidirectional": values.take("bidirectional", default=True),
        "num_blocks": values.take("n_repeats", default=6),
        "chunk_size": values.take("chunk_size", default=100),
        "hop_size": values.take("hop_size", default=None),
        "norm": values.choose("norm_type", _DPTNET_NORMS, default="gLN"),
        "dropout": values.take("dropout", default=0.0),
        "mask_activation": read_mask_activation(values, "relu", softmax=softmax),
        **read_filterbank(values, where, "relu", num_filters=64),
    }
    values.finish()
    renamed = without_unit_dimensions(rename(state, _DPTNET_RULES, where))
    return Converted(model, join_gates(renamed, where, "to_masks."))
