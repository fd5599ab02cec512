"""SepFormer: ``Dual_Path_Model`` with two ``SBTransformerBlock``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from polsess.checkpoints.formats import CheckpointError, Converted
from polsess.checkpoints.speechbrain.arguments import (
    FILTERBANK_NAMES,
    REQUIRED,
    complete,
    norm_name,
    read_filterbank,
    rename,
    require,
)
from polsess.checkpoints.speechbrain.reader import CONVERTERS
from polsess.checkpoints.speechbrain.transformers import (
    read_transformer,
    require_alike,
    transformer_fields,
    transformer_names,
    without_positions,
)

DUAL_PATH_MODEL = {
    "in_channels": REQUIRED,
    "out_channels": REQUIRED,
    "intra_model": REQUIRED,
    "inter_model": REQUIRED,
    "num_layers": 1,
    "norm": "ln",
    "K": 200,
    "num_spks": 2,
    "skip_around_intra": True,
    "linear_layer_after_inter_intra": True,
    "use_global_pos_enc": False,
    "max_length": 20000,
}
"""The constructor's arguments and defaults."""

DUAL_PATH_NAMES = (
    (r"masknet\.norm\.(weight|bias)", r"norm.\1"),
    (r"masknet\.conv1d\.weight", "bottleneck.weight"),
    (r"masknet\.dual_mdl\.(\d+)\.(intra|inter)_norm\.(weight|bias)", r"blocks.\1.\2_norm.\3"),
    (r"masknet\.prelu\.weight", "activation.weight"),
    (r"masknet\.conv2d\.(weight|bias)", r"to_sources.\1"),
    (r"masknet\.end_conv1x1\.weight", "to_mask.weight"),
)
"""Patterns for ``rename``: what stands around the inner models."""

_BLOCK = r"masknet\.dual_mdl\.(?P<block>\d+)\.(?P<path>intra|inter)"
_PATH = r"blocks.\g<block>.\g<path>"


@CONVERTERS.register("Dual_Path_Model[SBTransformerBlock]")
def convert_sepformer(arguments: Mapping[str, Any], state: Mapping[str, Tensor]) -> Converted:
    """Convert SepFormer; see ``CONVERTERS`` for the arguments."""
    masknet = complete("masknet", arguments["masknet"], DUAL_PATH_MODEL)
    require("masknet", masknet, use_global_pos_enc=False)
    intra_where, inter_where = "masknet.intra_model", "masknet.inter_model"
    intra = read_transformer(intra_where, masknet["intra_model"], "SBTransformerBlock")
    inter = read_transformer(inter_where, masknet["inter_model"], "SBTransformerBlock")
    require_alike(intra_where, intra, inter_where, inter)
    linear = masknet["linear_layer_after_inter_intra"]
    model = {
        "model_type": "sepformer",
        "num_sources": masknet["num_spks"],
        **read_filterbank(arguments),
        "d_model": masknet["out_channels"],
        "chunk_size": masknet["K"],
        "num_blocks": masknet["num_layers"],
        "num_intra_layers": intra["num_layers"],
        "num_inter_layers": inter["num_layers"],
        **transformer_fields(intra),
        "norm": norm_name("masknet.norm", masknet["norm"]),
        "linear_after_transformer": linear,
        "skip_around_intra": masknet["skip_around_intra"],
    }
    names = [
        *FILTERBANK_NAMES,
        *DUAL_PATH_NAMES,
        (rf"{_BLOCK}_linear\.w\.(?P<kind>weight|bias)", rf"{_PATH}.1.\g<kind>"),
        *transformer_names(rf"{_BLOCK}_mdl", f"{_PATH}.0" if linear else _PATH),
    ]
    return Converted(model, join_gates(rename(without_positions(state), names)))


def join_gates(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Put the output map and its gate into one.

    Raises:
        CheckpointError: If their shapes differ.
    """
    joined = dict(state)
    for kind in ("weight", "bias"):
        keys = [f"masknet.{part}.0.{kind}" for part in ("output", "output_gate")]
        output, gate = (joined.pop(key) for key in keys)
        if output.shape != gate.shape or output.ndim == 0:
            raise CheckpointError(f"{keys[0]} is {list(output.shape)}, {keys[1]} is {list(gate.shape)}.")
        joined[f"gated_output.{kind}"] = torch.cat((output, gate))
    return joined
