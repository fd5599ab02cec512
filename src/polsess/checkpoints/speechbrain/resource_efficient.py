"""RE-SepFormer and SkiM: ``ResourceEfficientSeparator`` with transformers or with LSTMs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from polsess.checkpoints.formats import CheckpointError, Converted
from polsess.checkpoints.speechbrain.arguments import (
    FILTERBANK_NAMES,
    REQUIRED,
    complete,
    norm_name,
    read_filterbank,
    rename,
)
from polsess.checkpoints.speechbrain.hyperparams import Instance
from polsess.checkpoints.speechbrain.reader import CONVERTERS
from polsess.checkpoints.speechbrain.transformers import (
    read_transformer,
    require_alike,
    transformer_fields,
    transformer_names,
    without_positions,
)

_SEPARATOR = {
    "input_dim": REQUIRED,
    "causal": True,  # this, unit and dropout reach no part of the network there
    "num_spk": 2,
    "nonlinear": "relu",
    "layer": 3,
    "unit": 512,
    "segment_size": 20,
    "dropout": 0.0,
    "mem_type": "hc",
    "seg_model": None,
    "mem_model": None,
}
_SEGMENT_LSTM = {
    "input_size": REQUIRED,
    "hidden_size": REQUIRED,
    "dropout": 0.0,
    "bidirectional": False,
    "norm_type": "cLN",
}
_MEMORY_LSTM = {
    "hidden_size": REQUIRED,
    "dropout": 0.0,  # between the layers of one layer: nowhere
    "bidirectional": False,
    "mem_type": "hc",
    "norm_type": "cln",
}
_NAMES = (
    *FILTERBANK_NAMES,
    (r"masknet\.model\.output_fc\.0\.weight", "activation.weight"),
    (r"masknet\.model\.output_fc\.1\.(weight|bias)", r"to_masks.\1"),
)
_TRANSFORMER_BLOCK = "SBTransformerBlock_wnormandskip"


@CONVERTERS.register(f"ResourceEfficientSeparator[{_TRANSFORMER_BLOCK}]")
def convert_resepformer(arguments: Mapping[str, Any], state: Mapping[str, Tensor]) -> Converted:
    """Convert RE-SepFormer; see ``CONVERTERS`` for the arguments."""
    masknet = complete("masknet", arguments["masknet"], _SEPARATOR)
    memory = _choice("masknet.mem_type", masknet["mem_type"], {"av": "mean", None: "none"})
    where = "masknet.seg_model"
    segment = read_transformer(where, masknet["seg_model"], _TRANSFORMER_BLOCK)
    across = segment
    if memory == "mean":
        across = read_transformer("masknet.mem_model", masknet["mem_model"], _TRANSFORMER_BLOCK)
        require_alike(where, segment, "masknet.mem_model", across)
    model = {
        "model_type": "resepformer",
        **_common_fields(arguments, masknet),
        "num_segment_layers": segment["num_layers"],
        "num_memory_layers": across["num_layers"],
        **transformer_fields(segment),
        "norm": norm_name(f"{where}.norm_type", segment["norm_type"]) if segment["use_norm"] else None,
        "skip": segment["use_skip"],
        "memory": memory,
        "causal_attention": segment["causal"],
    }
    names = [*_NAMES]
    for part, native in (("seg", r"segment_models.\g<block>"), ("mem", r"memory_models.\g<block>")):
        block = rf"masknet\.model\.{part}_model\.(?P<block>\d+)"
        names.append((rf"{block}\.norm\.(?P<kind>weight|bias)", rf"{native}.norm.\g<kind>"))
        names += transformer_names(block, f"{native}.transformer")
    return Converted(model, _masks_by_source(rename(without_positions(state), names), masknet["num_spk"]))


@CONVERTERS.register("ResourceEfficientSeparator[SegLSTM]")
def convert_skim(arguments: Mapping[str, Any], state: Mapping[str, Tensor]) -> Converted:
    """Convert SkiM; see ``CONVERTERS`` for the arguments."""
    masknet = complete("masknet", arguments["masknet"], _SEPARATOR)
    segment = complete("masknet.seg_model", masknet["seg_model"].arguments, _SEGMENT_LSTM)
    kinds = {kind: kind for kind in ("hc", "h", "c", "id")} | {None: "none"}
    memory = _choice("masknet.mem_type", masknet["mem_type"], kinds)
    if memory != "none":
        memory = _memory_of("masknet.mem_model", masknet["mem_model"], segment)
    model = {
        "model_type": "skim",
        **_common_fields(arguments, masknet),
        "hidden_size": segment["hidden_size"],
        "bidirectional": segment["bidirectional"],
        "norm": norm_name("masknet.seg_model.norm_type", segment["norm_type"]),
        "memory": memory,
        "dropout": segment["dropout"],
    }
    segments, memories = r"segment_models.\g<block>", r"memories.\g<block>"
    seg, mem = (rf"masknet\.model\.{part}_model\.(?P<block>\d+)" for part in ("seg", "mem"))
    names = [
        *_NAMES,
        (rf"{seg}\.(?P<rest>(lstm|norm)\..*)", rf"{segments}.\g<rest>"),
        (rf"{seg}\.proj\.(?P<rest>.*)", rf"{segments}.project.\g<rest>"),
    ]
    for letter, native in (("h", "hidden"), ("c", "cell")):
        names += [
            (rf"{mem}\.{letter}_net\.mdl\.rnn\.(?P<rest>.*)", rf"{memories}.{native}.lstm.\g<rest>"),
            (rf"{mem}\.{letter}_net\.out\.(?P<rest>.*)", rf"{memories}.{native}.project.\g<rest>"),
            (rf"{mem}\.{letter}_norm\.(?P<rest>.*)", rf"{memories}.{native}.norm.\g<rest>"),
        ]
    return Converted(model, _masks_by_source(rename(state, names), masknet["num_spk"]))


def _common_fields(arguments: Mapping[str, Any], masknet: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "num_sources": masknet["num_spk"],
        **read_filterbank(arguments),
        "segment_size": masknet["segment_size"],
        "num_blocks": masknet["layer"],
        "mask_activation": masknet["nonlinear"],
    }


def _memory_of(where: str, model: Any, segment: Mapping[str, Any]) -> str:
    """The kind of memory of a ``MemLSTM`` that goes with the segment's LSTM."""
    if not isinstance(model, Instance) or model.class_name != "MemLSTM":
        raise CheckpointError(f"{where}: expected a MemLSTM, got {model!r}.")
    values = complete(where, model.arguments, _MEMORY_LSTM)
    used = ["hidden_size", "bidirectional"]  # the identity has no norm
    for name in used if values["mem_type"] == "id" else [*used, "norm_type"]:
        if values[name] != segment[name]:
            raise CheckpointError(
                f"{where}.{name} is {values[name]!r}, masknet.seg_model.{name} is {segment[name]!r}; "
                "they must be equal."
            )
    return str(values["mem_type"])


def _choice(where: str, value: Any, choices: Mapping[Any, str]) -> str:
    for name, choice in choices.items():
        if name == value:
            return choice
    raise CheckpointError(f"{where}: expected one of {list(choices)}, got {value!r}.")


def _masks_by_source(state: Mapping[str, Tensor], num_sources: Any) -> dict[str, Tensor]:
    """Turn masks whose channels run over the sources first into masks source by source."""
    reordered = dict(state)
    for key in ("to_masks.weight", "to_masks.bias"):
        value = reordered[key]
        if isinstance(num_sources, int) and num_sources > 0 and value.ndim and len(value) % num_sources == 0:
            reordered[key] = value.unflatten(0, (-1, num_sources)).transpose(0, 1).flatten(0, 1)
    return reordered
