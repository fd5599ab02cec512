"""ESPnet's ``SkiMSeparator`` between its convolutional encoder and decoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from polsess.checkpoints.formats import Converted
from polsess.checkpoints.toolkits.espnet.reader import CONVERTERS
from polsess.checkpoints.translation import (
    Arguments,
    Rule,
    masks_by_source,
    rename,
    without_unit_dimensions,
)
from polsess.checkpoints.unpickling import CheckpointError

_WHERE = "ESPnet skim"
_MEMORIES = {kind: kind for kind in ("hc", "h", "c", "id")} | {None: None}
_NORM = {"gamma": "weight", "beta": "bias"}
_RULES: list[Rule] = [
    (r"encoder\.conv1d\.weight", "encoder.conv.weight"),
    (r"decoder\.convtrans1d\.weight", "decoder.conv.weight"),
    (r"skim\.output_fc\.0\.weight", "activation.weight"),
    (r"skim\.output_fc\.1\.(weight|bias)", r"to_masks.\1"),
    (r"skim\.seg_lstms\.(\d+)\.(lstm\.\w+)", r"segment_models.\1.\2"),
    (r"skim\.seg_lstms\.(\d+)\.proj\.(weight|bias)", r"segment_models.\1.project.\2"),
    *[
        (rf"skim\.seg_lstms\.(\d+)\.norm\.{theirs}", rf"segment_models.\1.norm.{ours}")
        for theirs, ours in _NORM.items()
    ],
    *[
        rule
        for letter, state in (("h", "hidden"), ("c", "cell"))
        for rule in (
            (rf"skim\.mem_lstms\.(\d+)\.{letter}_net\.rnn\.(\w+)", rf"memories.\1.{state}.lstm.\2"),
            (rf"skim\.mem_lstms\.(\d+)\.{letter}_net\.proj\.(\w+)", rf"memories.\1.{state}.project.\2"),
            (rf"skim\.mem_lstms\.(\d+)\.{letter}_norm\.gamma", rf"memories.\1.{state}.norm.weight"),
            (rf"skim\.mem_lstms\.(\d+)\.{letter}_norm\.beta", rf"memories.\1.{state}.norm.bias"),
        )
    ],
]


@CONVERTERS.register("skim")
def convert_skim(arguments: Mapping[str, Any], state: Mapping[str, Tensor]) -> Converted:
    """Convert; a causal network has the norm cLN, another one gLN."""
    for name in ("normalize_variance", "normalize_variance_per_ch"):
        Arguments(arguments["model_conf"], _WHERE).expect(name, False)
    separator = Arguments(arguments["separator_conf"], _WHERE)
    separator.ignore("input_dim")
    separator.expect("predict_noise", False)
    causal = separator.take("causal", default=True)
    dropout = separator.take("dropout", default=0.0)
    model = {
        "model_type": "skim",
        **_read_filterbank(arguments),
        "num_sources": separator.take("num_spk", default=2),
        "num_blocks": separator.take("layer", default=3),
        "hidden_size": separator.take("unit", default=512),
        "segment_size": separator.take("segment_size", default=20),
        "overlap": separator.take("seg_overlap", default=False),
        "bidirectional": not causal,
        "norm": "cLN" if causal else "gLN",
        "memory": _read_memory(separator, causal),
        "mask_activation": separator.take("nonlinear", default="relu"),
        "dropout": dropout,
        "memory_dropout": dropout,
    }
    separator.finish()
    renamed = without_unit_dimensions(_flat_norms(rename(state, _RULES, _WHERE)))
    return Converted(model, masks_by_source(renamed, model["num_sources"]))


def _read_memory(separator: Arguments, causal: bool) -> str:
    """Without memories a block begins each segment with the state in which the block before left it."""
    memory = separator.choose("mem_type", _MEMORIES, default="hc")
    if memory is None and causal:
        raise CheckpointError(
            f"{_WHERE}: mem_type=None with causal=True shows a segment its own end; not read."
        )
    return memory or "id"


def _read_filterbank(arguments: Mapping[str, Any]) -> dict[str, Any]:
    found = []
    for part in ("encoder", "decoder"):
        Arguments(arguments, _WHERE).choose(part, {"conv": "conv"})
        conf = Arguments(arguments[f"{part}_conf"], f"{_WHERE}, {part}")
        found.append({name: conf.take(name) for name in ("channel", "kernel_size", "stride")})
        conf.finish()
    if found[0] != found[1]:
        raise CheckpointError(f"{_WHERE}: the decoder {found[1]} does not fit the encoder {found[0]}.")
    sizes = found[0]
    return {"num_filters": sizes.pop("channel"), **sizes}


def _flat_norms(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Norms without their leading dimension of size one."""
    return {key: value.flatten() if ".norm." in key else value for key, value in state.items()}
