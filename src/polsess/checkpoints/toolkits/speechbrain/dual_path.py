"""SpeechBrain's ``dual_path.Dual_Path_Model``: SepFormer with transformers, DPRNN with recurrent networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from polsess.checkpoints.formats import Converted
from polsess.checkpoints.toolkits.speechbrain.inner_models import (
    NORMS,
    arguments_of,
    read_transformer,
    transformer_rules,
    without_positions,
)
from polsess.checkpoints.toolkits.speechbrain.reader import CONVERTERS, read_filterbank
from polsess.checkpoints.translation import Arguments, Rule, join_gates, rename, without_unit_dimensions
from polsess.checkpoints.unpickling import CheckpointError

_NAME = "SpeechBrain Dual_Path_Model"
DUAL_PATH_RULES: list[Rule] = [
    (r"encoder\.conv1d\.weight", "encoder.conv.weight"),
    (r"decoder\.weight", "decoder.conv.weight"),
    (r"masknet\.norm\.(weight|bias)", r"norm.\1"),
    (r"masknet\.conv1d\.weight", "bottleneck.weight"),
    (r"masknet\.dual_mdl\.(\d+)\.(intra|inter)_norm\.(weight|bias)", r"blocks.\1.\2_norm.\3"),
    (r"masknet\.prelu\.weight", "activation.weight"),
    (r"masknet\.conv2d\.(weight|bias)", r"to_sources.\1"),
    (r"masknet\.(output|output_gate)\.0\.(weight|bias)", r"\1.\2"),
    (r"masknet\.end_conv1x1\.weight", "to_mask.weight"),
]
"""Destinations of all tensors around the inner models."""
_BLOCK = r"masknet\.dual_mdl\.(?P<block>\d+)\.(?P<path>intra|inter)"
_PATH = r"blocks.\g<block>.\g<path>"


@CONVERTERS.register("Dual_Path_Model[SBTransformerBlock]")
def convert_sepformer(arguments: Mapping[str, Any], state: Mapping[str, Tensor]) -> Converted:
    """Convert; the transformers across chunks may differ from those within in every option."""
    masknet = Arguments(arguments["masknet"], _NAME)
    intra, inter = (_read_inner(masknet, name) for name in ("intra_model", "inter_model"))
    across = {name: value for name, value in inter.items() if name != "num_layers" and value != intra[name]}
    linear = masknet.choose("linear_layer_after_inter_intra", {True: True, False: False}, default=True)
    masknet.ignore("max_length")  # of a global positional encoding
    masknet.expect("use_global_pos_enc", False)
    model = {
        "model_type": "sepformer",
        "num_sources": masknet.take("num_spks", default=2),
        "sample_rate": arguments["sample_rate"],
        "num_filters": masknet.take("in_channels"),
        "d_model": masknet.take("out_channels"),
        "chunk_size": masknet.take("K", default=200),
        "num_blocks": masknet.take("num_layers", default=1),
        "num_intra_layers": intra["num_layers"],
        "num_inter_layers": inter["num_layers"],
        "norm": masknet.choose("norm", NORMS, default="ln"),
        "linear_after_transformer": linear,
        "skip_around_intra": masknet.take("skip_around_intra", default=True),
        **{name: value for name, value in intra.items() if name != "num_layers"},
        **({"across": across} if across else {}),
        **read_filterbank(arguments),
    }
    masknet.finish()
    rules = [
        *DUAL_PATH_RULES,
        (rf"{_BLOCK}_linear\.w\.(?P<kind>weight|bias)", rf"{_PATH}.1.\g<kind>"),
        *transformer_rules(rf"{_BLOCK}_mdl", f"{_PATH}.0" if linear else _PATH),
    ]
    renamed = without_unit_dimensions(rename(without_positions(state), rules, _NAME))
    return Converted(model, join_gates(renamed, _NAME))


def _read_inner(masknet: Arguments, name: str) -> dict[str, Any]:
    block = arguments_of(masknet.take(name), "SBTransformerBlock", name)
    fields = read_transformer(block)
    block.finish()
    return fields


_CELLS = {"LSTM": "LSTM", "GRU": "GRU", "RNN": "RNN_RELU"}  # its RNN has relu
_SIDES = r"masknet\.dual_mdl\.(\d+)\.(intra|inter)_"
_RULES: list[Rule] = [
    (r"encoder\.conv1d\.weight", "encoder.conv.weight"),
    (r"decoder\.weight", "decoder.conv.weight"),
    (r"masknet\.norm\.(weight|bias)", r"input_norm.\1"),
    (r"masknet\.conv1d\.weight", "bottleneck.weight"),
    (_SIDES + r"mdl\.mdl\.rnn\.(.+)", r"blocks.\1.\2.0.rnn.\3"),
    (_SIDES + r"linear\.w\.(weight|bias)", r"blocks.\1.\2.1.\3"),
    (_SIDES + r"norm\.(weight|bias)", r"blocks.\1.\2_norm.\3"),
    (r"masknet\.prelu\.weight", "to_masks.activation.weight"),
    (r"masknet\.conv2d\.(weight|bias)", r"to_masks.to_sources.\1"),
    (r"masknet\.(output|output_gate)\.0\.(weight|bias)", r"to_masks.\1.\2"),
    (r"masknet\.end_conv1x1\.weight", "to_masks.to_masks.weight"),
]


@CONVERTERS.register("Dual_Path_Model[SBRNNBlock]")
def convert_dprnn(arguments: Mapping[str, Any], state: Mapping[str, Tensor]) -> Converted:
    """Convert; the networks within and across chunks may differ in their direction only."""
    masknet = Arguments(arguments["masknet"], _NAME)
    intra, inter = (_read_rnn(masknet, name) for name in ("intra_model", "inter_model"))
    directions = {
        "intra_bidirectional": intra.pop("bidirectional"),
        "inter_bidirectional": inter.pop("bidirectional"),
    }
    if intra != inter:
        raise CheckpointError(f"{_NAME}: intra_model and inter_model must be alike, got {intra} and {inter}.")
    masknet.ignore("max_length")  # of a global positional encoding
    masknet.expect("use_global_pos_enc", False)
    linear = masknet.choose("linear_layer_after_inter_intra", {True: True, False: False}, default=True)
    model = {
        "model_type": "dprnn",
        "num_sources": masknet.take("num_spks", default=2),
        "sample_rate": arguments["sample_rate"],
        "num_filters": masknet.take("in_channels"),
        "encoder_activation": "relu",
        "bottleneck_channels": masknet.take("out_channels"),
        "bottleneck_bias": False,
        "linear_after_rnn": linear,
        "skip_around_intra": masknet.take("skip_around_intra", default=True),
        "num_blocks": masknet.take("num_layers", default=1),
        "chunk_size": masknet.take("K", default=200),
        "chunk_padding": "half",
        "norm": masknet.choose("norm", NORMS, default="ln"),
        "mask_activation": "relu",
        **intra,
        **directions,
        **read_filterbank(arguments),
    }
    masknet.finish()
    renamed = without_unit_dimensions(rename(state, _RULES, _NAME))
    return Converted(model, join_gates(renamed, _NAME, "to_masks."))


def _read_rnn(masknet: Arguments, name: str) -> dict[str, Any]:
    block = arguments_of(masknet.take(name), "SBRNNBlock", name)
    block.ignore("input_size")  # the tensors show it
    num_layers, dropout = block.take("num_layers"), block.take("dropout", default=0)
    fields = {
        "hidden_size": block.take("hidden_channels"),
        "num_layers": num_layers,
        "rnn_type": block.choose("rnn_type", _CELLS, default="LSTM"),
        "dropout": 0.0 if num_layers == 1 else dropout,  # it acts between layers only
        "bidirectional": block.take("bidirectional", default=True),
    }
    block.finish()
    return fields
