"""Asteroid's ``DPRNNTasNet`` and ``DPTNet``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from polsess.checkpoints.formats import Converted
from polsess.checkpoints.toolkits.asteroid.filterbank import FILTERBANK_RULES, read_filterbank, rename_network
from polsess.checkpoints.toolkits.asteroid.reader import (
    ACTIVATIONS,
    CONVERTERS,
    GATED_RULES,
    NORMS,
    norm_rules,
    read_mask_activation,
    source_softmax,
)
from polsess.checkpoints.translation import Arguments, Rule, join_gates, without_unit_dimensions

_DPRNN_NORMS = {name: norm for name, norm in NORMS.items() if norm != "cgLN"}  # which failed there
_CELLS = {name: cell for cell in ("LSTM", "GRU", "RNN") for name in (cell, cell.lower())}
_DPRNN_RULES: list[Rule] = [
    *FILTERBANK_RULES,
    *GATED_RULES,
    *norm_rules(r"masker\.bottleneck\.0", "input_norm"),
    (r"masker\.bottleneck\.1\.(weight|bias)", r"bottleneck.\1"),
    (r"masker\.net\.(\d+)\.(intra|inter)_RNN\.rnn\.(.+)", r"blocks.\1.\2.0.rnn.\3"),
    (r"masker\.net\.(\d+)\.(intra|inter)_RNN\.rnn1\.(.+)", r"blocks.\1.\2.0.factors.0.rnn.\3"),
    (r"masker\.net\.(\d+)\.(intra|inter)_RNN\.rnn2\.(.+)", r"blocks.\1.\2.0.factors.1.rnn.\3"),
    (r"masker\.net\.(\d+)\.(intra|inter)_linear\.(weight|bias)", r"blocks.\1.\2.1.\3"),
    *norm_rules(r"masker\.net\.(\d+)\.(intra|inter)_norm", r"blocks.\1.\2_norm"),
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
    renamed = rename_network(state, _DPRNN_RULES, model, where)
    return Converted(model, join_gates(without_unit_dimensions(renamed), where, "to_masks."))


_ACTIVATIONS = {name: word for name, word in ACTIVATIONS.items() if word != "prelu"}
_LAYER = r"masker\.layers\.(\d+)\."
_PATHS = {"0": "intra", "1": "inter"}
_DPTNET_RULES: list[Rule] = [
    *FILTERBANK_RULES,
    *GATED_RULES,
    (r"masker\.input_layer\.(weight|bias)", r"widen.\1"),
    *norm_rules(r"masker\.in_norm", "input_norm"),
    *[
        (_LAYER + foreign, rf"blocks.\1.{path}.{ours}")
        for number, path in _PATHS.items()
        for foreign, ours in [
            (rf"{number}\.mha\.in_proj_(weight|bias)", r"attention.qkv.\2"),
            (rf"{number}\.mha\.out_proj\.(weight|bias)", r"attention.out.\2"),
            (rf"{number}\.recurrent\.(.+)", r"rnn.rnn.\2"),
            (rf"{number}\.linear\.(weight|bias)", r"project.\2"),
            *norm_rules(rf"{number}\.norm_mha", "attention_norm"),
            *norm_rules(rf"{number}\.norm_ff", "feed_forward_norm"),
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
        "norm": values.choose("norm_type", NORMS, default="gLN"),
        "dropout": values.take("dropout", default=0.0),
        "mask_activation": read_mask_activation(values, "relu", softmax=softmax),
        **read_filterbank(values, where, "relu", num_filters=64),
    }
    values.finish()
    renamed = without_unit_dimensions(rename_network(state, _DPTNET_RULES, model, where))
    return Converted(model, join_gates(renamed, where, "to_masks."))
