"""Asteroid's ``LSTMTasNet``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from polsess.checkpoints.arguments import Arguments
from polsess.checkpoints.asteroid.filterbank import read_filterbank
from polsess.checkpoints.asteroid.masks import read_mask_activation
from polsess.checkpoints.asteroid.reader import CONVERTERS
from polsess.checkpoints.formats import CheckpointError, Converted
from polsess.checkpoints.names import Rule, rename

_COPY = "encoder.encoder_relu.filterbank._filters"
_RULES: list[Rule] = [
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
    return Converted(model, rename(kept, _RULES, where))
