"""SpeechBrain's ``dual_path.Dual_Path_Model``: DPRNN with recurrent networks alone, SepFormer with others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from polsess.checkpoints.formats import Converted
from polsess.checkpoints.toolkits.speechbrain.inner_models import (
    NORM_TENSORS,
    NORMS,
    RECURRENT,
    TRANSFORMER,
    arguments_of,
    class_of,
    order_heads,
    other_rules,
    read_other,
    read_transformer,
    transformer_rules,
    without_positions,
)
from polsess.checkpoints.toolkits.speechbrain.reader import CONVERTERS, read_filterbank
from polsess.checkpoints.translation import Arguments, Rule, join_gates, rename, without_unit_dimensions

_NAME = "SpeechBrain Dual_Path_Model"
DUAL_PATH_RULES: list[Rule] = [
    (r"encoder\.conv1d\.weight", "encoder.conv.weight"),
    (r"decoder\.weight", "decoder.conv.weight"),
    (rf"masknet\.norm\.{NORM_TENSORS}", r"norm.\1"),
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


_INNER = ("intra_model", "inter_model")


def _read_around(masknet: Arguments, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Fields that the networks share, whatever their inner models."""
    masknet.ignore("max_length")  # of a global positional encoding
    masknet.expect("use_global_pos_enc", False)
    norm = masknet.choose("norm", {**NORMS, None: None}, default="ln")
    return {
        "num_sources": masknet.take("num_spks", default=2),
        "sample_rate": arguments["sample_rate"],
        "num_filters": masknet.take("in_channels"),
        "chunk_size": masknet.take("K", default=200),
        "num_blocks": masknet.take("num_layers", default=1),
        "skip_around_intra": masknet.take("skip_around_intra", default=True),
        "norm": norm,
        **({} if norm else {"input_norm": "bN"}),  # what its selection of norms has for any other word
        **read_filterbank(arguments),
    }


@CONVERTERS.register(
    "Dual_Path_Model[SBTransformerBlock]",
    "Dual_Path_Model[SBConformerEncoderBlock]",
    "Dual_Path_Model[PytorchTransformerBlock]",
)
def convert_sepformer(arguments: Mapping[str, Any], state: Mapping[str, Tensor]) -> Converted:
    """Convert; the models within and across chunks may be of different kinds and differ in every option."""
    masknet = Arguments(arguments["masknet"], _NAME)
    linear = masknet.choose("linear_layer_after_inter_intra", {True: True, False: False}, default=True)
    model = {
        "model_type": "sepformer",
        **_read_around(masknet, arguments),
        "d_model": masknet.take("out_channels"),
        "linear_after_transformer": linear,
        **_read_models(masknet),
    }
    masknet.finish()
    blocks = (rf"{_BLOCK}_mdl", f"{_PATH}.0" if linear else _PATH)
    rules = [
        *DUAL_PATH_RULES,
        (rf"{_BLOCK}_linear\.w\.(?P<kind>weight|bias)", rf"{_PATH}.1.\g<kind>"),
        *transformer_rules(*blocks),
        *other_rules(*blocks),
    ]
    renamed = without_unit_dimensions(rename(without_positions(state), rules, _NAME))
    return Converted(model, join_gates(order_heads(renamed, _NAME), _NAME))


def _read_models(masknet: Arguments) -> dict[str, Any]:
    """The fields of both inner models; transformers across chunks by what differs from those within."""
    models = {name: masknet.take(name) for name in _INNER}
    read = {name: _read_transformer(model, name) for name, model in models.items()}
    fields: dict[str, Any] = {}
    for name, inner in read.items():
        fields[f"num_{name.removesuffix('_model')}_layers"] = inner.pop("num_layers")
    transformers = [inner for inner in read.values() if "kind" not in inner]
    fields |= transformers[0] if transformers else {}
    fields |= {name: inner for name, inner in read.items() if "kind" in inner}
    if len(transformers) == len(read):
        within, across = transformers
        changed = {name: value for name, value in across.items() if value != within[name]}
        fields |= {"across": changed} if changed else {}
    return fields


def _read_transformer(model: Any, name: str) -> dict[str, Any]:
    if class_of(model) != TRANSFORMER:
        return read_other(model, name)
    block = arguments_of(model, TRANSFORMER, name)
    fields = read_transformer(block)
    block.finish()
    return fields


_SIDES = r"masknet\.dual_mdl\.(\d+)\.(intra|inter)_"
_RULES: list[Rule] = [
    (r"encoder\.conv1d\.weight", "encoder.conv.weight"),
    (r"decoder\.weight", "decoder.conv.weight"),
    (rf"masknet\.norm\.{NORM_TENSORS}", r"input_norm.\1"),
    (r"masknet\.conv1d\.weight", "bottleneck.weight"),
    (_SIDES + r"mdl\.mdl\.rnn\.(.+)", r"blocks.\1.\2.0.rnn.\3"),
    (_SIDES + r"linear\.w\.(weight|bias)", r"blocks.\1.\2.1.\3"),
    (_SIDES + r"norm\.(weight|bias)", r"blocks.\1.\2_norm.\3"),
    (r"masknet\.prelu\.weight", "to_masks.activation.weight"),
    (r"masknet\.conv2d\.(weight|bias)", r"to_masks.to_sources.\1"),
    (r"masknet\.(output|output_gate)\.0\.(weight|bias)", r"to_masks.\1.\2"),
    (r"masknet\.end_conv1x1\.weight", "to_masks.to_masks.weight"),
]
_OURS = {"cell": "rnn_type", "hidden_size": "hidden_size", "num_layers": "num_layers", "dropout": "dropout"}
"""Our fields of recurrent networks that may differ across chunks, by their names in other models."""


@CONVERTERS.register("Dual_Path_Model[SBRNNBlock]")
def convert_dprnn(arguments: Mapping[str, Any], state: Mapping[str, Tensor]) -> Converted:
    """Convert; a recurrent network beside a model of another kind is a SepFormer here."""
    if class_of(arguments["masknet"].get("inter_model")) != RECURRENT:
        return convert_sepformer(arguments, state)
    masknet = Arguments(arguments["masknet"], _NAME)
    intra, inter = (_read_transformer(masknet.take(name), name) for name in _INNER)
    within, across = ({ours: inner[name] for name, ours in _OURS.items()} for inner in (intra, inter))
    changed = {name: value for name, value in across.items() if value != within[name]}
    linear = masknet.choose("linear_layer_after_inter_intra", {True: True, False: False}, default=True)
    model = {
        "model_type": "dprnn",
        **_read_around(masknet, arguments),
        "encoder_activation": "relu",
        "bottleneck_channels": masknet.take("out_channels"),
        "bottleneck_bias": False,
        "linear_after_rnn": linear,
        "chunk_padding": "half",
        "mask_activation": "relu",
        **within,
        **({"across": changed} if changed else {}),
        "intra_bidirectional": intra["bidirectional"],
        "inter_bidirectional": inter["bidirectional"],
    }
    masknet.finish()
    renamed = without_unit_dimensions(rename(state, _RULES, _NAME))
    return Converted(model, join_gates(renamed, _NAME, "to_masks."))
