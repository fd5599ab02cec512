"""Asteroid's ``DPRNNTasNet``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from polsess.checkpoints.arguments import Arguments
from polsess.checkpoints.asteroid.filterbank import (
    FILTERBANK_RULES,
    read_filterbank,
)
from polsess.checkpoints.asteroid.masks import GATED_RULES, read_mask_activation
from polsess.checkpoints.asteroid.reader import CONVERTERS
from polsess.checkpoints.formats import Converted
from polsess.checkpoints.names import Rule, join_gates, rename, without_unit_dimensions

_NORMS = {"gLN": "gLN", "cLN": "cLN"}
_CELLS = {name: cell for cell in ("LSTM", "GRU", "RNN") for name in (cell, cell.lower())}
_RULES: list[Rule] = [
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
        "norm": values.choose("norm_type", _NORMS, default="gLN"),
        "dropout": 0.0 if num_layers == 1 else dropout,  # it acts between layers only
        "mask_activation": read_mask_activation(values, "sigmoid", softmax="filter_softmax"),
        **read_filterbank(values, where, num_filters=64),
    }
    values.finish()
    renamed = rename(state, _RULES, where)
    return Converted(model, join_gates(without_unit_dimensions(renamed), where, "to_masks."))
