"""SepFormer and RE-SepFormer of the original trainer, which wrapped SpeechBrain's classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from polsess.checkpoints.formats import Converted
from polsess.checkpoints.legacy.reader import CONVERTERS
from polsess.checkpoints.speechbrain.arguments import complete
from polsess.checkpoints.speechbrain.hyperparams import Instance
from polsess.checkpoints.speechbrain.resource_efficient import convert_resepformer as convert_separator
from polsess.checkpoints.speechbrain.sepformer import convert_sepformer as convert_dual_path

_SHARED = {
    "kernel_size": 16,
    "stride": 8,
    "C": 2,
    "causal": False,  # never reached the network
    "num_blocks": 2,
    "num_layers": 8,
    "nhead": 8,
    "d_ffn": 1024,
    "dropout": 0.0,
}
_SEPFORMER = {
    **_SHARED,
    "N": 256,
    "d_model": 256,
    "chunk_size": 250,
    "hop_size": 125,  # never reached the network: chunks overlap by half
    "use_positional_encoding": False,  # a file without the flag is of the time before it
}
_RESEPFORMER = {**_SHARED, "N": 128, "segment_size": 150, "use_positional_encoding": True}


@CONVERTERS.register("sepformer")
def convert_sepformer(arguments: Mapping[str, Any], state: Mapping[str, Tensor]) -> Converted:
    """Convert SepFormer of any year."""
    values = complete("config.model.sepformer", arguments, _SEPFORMER)
    block = _block(values, "SBTransformerBlock", values["d_model"])
    masknet = {
        "in_channels": values["N"],
        "out_channels": values["d_model"],
        "num_layers": values["num_blocks"],
        "K": values["chunk_size"],
        "num_spks": values["C"],
        "intra_model": block,
        "inter_model": block,
        "linear_layer_after_inter_intra": False,
    }
    renamed = {key.replace("_mdl.transformer.", "_mdl.mdl.", 1): value for key, value in state.items()}
    return convert_dual_path(_with_filterbank(values, masknet), renamed)


@CONVERTERS.register("resepformer")
def convert_resepformer(arguments: Mapping[str, Any], state: Mapping[str, Tensor]) -> Converted:
    """Convert RE-SepFormer."""
    values = complete("config.model.resepformer", arguments, _RESEPFORMER)
    block = _block(values, "SBTransformerBlock_wnormandskip", values["N"])
    masknet = {
        "input_dim": values["N"],
        "num_spk": values["C"],
        "layer": values["num_blocks"],
        "segment_size": values["segment_size"],
        "mem_type": "av",
        "seg_model": block,
        "mem_model": block,
    }
    return convert_separator(_with_filterbank(values, masknet), state)


def _block(values: Mapping[str, Any], class_name: str, d_model: Any) -> Instance:
    shared = ("num_layers", "nhead", "d_ffn", "dropout", "use_positional_encoding")
    arguments = {name: values[name] for name in shared}
    return Instance(class_name, {**arguments, "d_model": d_model, "norm_before": True})


def _with_filterbank(values: Mapping[str, Any], masknet: dict[str, Any]) -> dict[str, Any]:
    """Arguments as SpeechBrain's reader gives them; the trainer worked at 8 kHz only."""
    size = values["kernel_size"]
    return {
        "encoder": {"kernel_size": size, "out_channels": values["N"]},
        "masknet": masknet,
        "decoder": {
            "in_channels": values["N"],
            "out_channels": 1,
            "kernel_size": size,
            "stride": values["stride"],
            "bias": False,
        },
        "sample_rate": 8000,
    }
