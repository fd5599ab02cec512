"""SpeechBrain's ``ResourceEfficientSeparator``: RE-SepFormer with transformers, SkiM with LSTMs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from polsess.checkpoints.formats import Converted
from polsess.checkpoints.toolkits.speechbrain.inner_models import (
    NORM_TENSORS,
    NORMS,
    arguments_of,
    read_transformer,
    transformer_rules,
    without_positions,
)
from polsess.checkpoints.toolkits.speechbrain.reader import CONVERTERS, read_filterbank
from polsess.checkpoints.translation import Arguments, Rule, masks_by_source, rename, without_unit_dimensions
from polsess.checkpoints.unpickling import CheckpointError

_NAME = "SpeechBrain ResourceEfficientSeparator"
_RULES: list[Rule] = [
    (r"encoder\.conv1d\.weight", "encoder.conv.weight"),
    (r"decoder\.weight", "decoder.conv.weight"),
    (r"masknet\.model\.output_fc\.0\.weight", "activation.weight"),
    (r"masknet\.model\.output_fc\.1\.(weight|bias)", r"to_masks.\1"),
]
_SEGMENT, _MEMORY = (rf"masknet\.model\.{part}_model\.(?P<block>\d+)" for part in ("seg", "mem"))
_KIND = r"(?P<kind>weight|bias)"
_TRANSFORMER = "SBTransformerBlock_wnormandskip"


@CONVERTERS.register(f"ResourceEfficientSeparator[{_TRANSFORMER}]")
def convert_resepformer(arguments: Mapping[str, Any], state: Mapping[str, Tensor]) -> Converted:
    """Convert RE-SepFormer, whose two kinds of transformers may differ in every option."""
    masknet = Arguments(arguments["masknet"], _NAME)
    memory = masknet.choose("mem_type", {"av": "mean", None: "none"}, default="hc")
    segment = _read_transformer(masknet.take("seg_model"), "seg_model")
    across_model = masknet.take("mem_model", default=None)
    across = _read_transformer(across_model, "mem_model") if memory == "mean" else dict(segment)
    num_memory_layers = across.pop("num_layers")
    changed = {name: value for name, value in across.items() if value != segment[name]}
    if "norm" in changed:
        changed["norm"] = changed["norm"] or "none"
    model = {
        "model_type": "resepformer",
        **_common_fields(masknet, arguments),
        "num_segment_layers": segment.pop("num_layers"),
        "num_memory_layers": num_memory_layers,
        "memory": memory,
        **segment,
        **({"memory_transformer": changed} if changed else {}),
    }
    masknet.finish()
    rules = [*_RULES]
    for block, native in ((_SEGMENT, "segment_models"), (_MEMORY, "memory_models")):
        rules.append((rf"{block}\.norm\.{_KIND}", rf"{native}.\g<block>.norm.\g<kind>"))
        rules += transformer_rules(block, rf"{native}.\g<block>.transformer")
    renamed = without_unit_dimensions(rename(without_positions(state), rules, _NAME))
    return Converted(model, masks_by_source(renamed, model["num_sources"]))


@CONVERTERS.register("ResourceEfficientSeparator[SegLSTM]")
def convert_skim(arguments: Mapping[str, Any], state: Mapping[str, Tensor]) -> Converted:
    """Convert SkiM."""
    masknet = Arguments(arguments["masknet"], _NAME)
    kinds = {kind: kind for kind in ("hc", "h", "c", "id")} | {None: "none"}
    memory = masknet.choose("mem_type", kinds, default="hc")
    segment = arguments_of(masknet.take("seg_model"), "SegLSTM", "seg_model")
    segment.ignore("input_size")  # the tensors show it
    dropout = segment.take("dropout", default=0.0)
    fields = _read_lstm(segment, default_norm="cLN")
    memory_model = masknet.take("mem_model", default=None)
    remembering = {"memory": memory} if memory == "none" else _read_memory(memory_model, fields)
    model = {
        "model_type": "skim",
        **_common_fields(masknet, arguments),
        "dropout": dropout,
        **fields,
        **remembering,
    }
    masknet.finish()
    renamed = without_unit_dimensions(rename(state, [*_RULES, *_lstm_rules()], _NAME))
    return Converted(model, masks_by_source(renamed, model["num_sources"]))


def _common_fields(masknet: Arguments, arguments: Mapping[str, Any]) -> dict[str, Any]:
    masknet.ignore("causal", "unit", "dropout")  # they reach no part of the network there
    return {
        "num_sources": masknet.take("num_spk", default=2),
        "sample_rate": arguments["sample_rate"],
        "num_filters": masknet.take("input_dim"),
        "segment_size": masknet.take("segment_size", default=20),
        "num_blocks": masknet.take("layer", default=3),
        "mask_activation": masknet.take("nonlinear", default="relu"),
        **read_filterbank(arguments),
    }


def _read_transformer(model: Any, where: str) -> dict[str, Any]:
    block = arguments_of(model, _TRANSFORMER, where)
    norm = block.choose("norm_type", NORMS, default="gln")
    fields = {
        **read_transformer(block),
        "causal_attention": block.take("causal", default=False),
        "norm": norm if block.take("use_norm", default=True) else None,
        "skip": block.take("use_skip", default=True),
    }
    block.finish()
    return fields


def _read_lstm(lstm: Arguments, default_norm: str) -> dict[str, Any]:
    fields = {
        "hidden_size": lstm.take("hidden_size"),
        "bidirectional": lstm.take("bidirectional", default=False),
        "norm": NORMS.get(lstm.take("norm_type", default=default_norm), "bN"),
    }
    lstm.finish()
    return fields


def _read_memory(model: Any, segment_fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a ``MemLSTM``, which must go with the segments' LSTM."""
    memory = arguments_of(model, "MemLSTM", "mem_model")
    memory.ignore("dropout")  # between layers, of which it has one
    kind = memory.take("mem_type", default="hc")
    fields = _read_lstm(memory, default_norm="cln")
    norm = fields.pop("norm")
    for name, value in fields.items():
        if value != segment_fields[name]:
            raise CheckpointError(
                f"SpeechBrain mem_model: {name} is {value!r}, in seg_model {segment_fields[name]!r}; "
                "they must be equal."
            )
    differs = kind != "id" and norm != segment_fields["norm"]  # which has no norm
    return {"memory": kind, **({"memory_norm": norm} if differs else {})}


def _lstm_rules() -> list[Rule]:
    segment, memory = r"segment_models.\g<block>", r"memories.\g<block>"
    rules = [
        (rf"{_SEGMENT}\.(?P<rest>lstm\.\w+)", rf"{segment}.\g<rest>"),
        (rf"{_SEGMENT}\.proj\.{_KIND}", rf"{segment}.project.\g<kind>"),
        (rf"{_SEGMENT}\.norm\.(?P<kind>{NORM_TENSORS})", rf"{segment}.norm.\g<kind>"),
    ]
    for letter, native in (("h", "hidden"), ("c", "cell")):
        rules += [
            (rf"{_MEMORY}\.{letter}_net\.mdl\.rnn\.(?P<rest>\w+)", rf"{memory}.{native}.lstm.\g<rest>"),
            (rf"{_MEMORY}\.{letter}_net\.out\.{_KIND}", rf"{memory}.{native}.project.\g<kind>"),
            (rf"{_MEMORY}\.{letter}_norm\.(?P<kind>{NORM_TENSORS})", rf"{memory}.{native}.norm.\g<kind>"),
        ]
    return rules
