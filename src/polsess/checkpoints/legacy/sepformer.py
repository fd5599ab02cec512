"""The original SepFormer and RE-SepFormer: SpeechBrain's modules under the names of a wrapper."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from polsess.checkpoints.arguments import Arguments
from polsess.checkpoints.formats import Converted
from polsess.checkpoints.legacy.reader import CONVERTERS
from polsess.checkpoints.legacy.wrapper import wrapped
from polsess.checkpoints.speechbrain.hyperparams import Instance
from polsess.checkpoints.speechbrain.resource_efficient import convert_resepformer as convert_separator
from polsess.checkpoints.speechbrain.sepformer import convert_sepformer as convert_dual_path


@CONVERTERS.register("sepformer")
def convert_sepformer(arguments: Mapping[str, Any], state: Mapping[str, Tensor]) -> Converted:
    """Convert SepFormer of any year; a file without the flag of positions is of the time before them."""
    values = Arguments(arguments, "original SepFormer")
    values.ignore("hop_size")  # never reached the network: chunks overlap by half
    width = values.take("d_model", default=256)
    block = _block(values, "SBTransformerBlock", width, default_positions=False)
    masknet = {
        "in_channels": values.take("N", default=256),
        "out_channels": width,
        "num_layers": values.take("num_blocks", default=2),
        "K": values.take("chunk_size", default=250),
        "num_spks": values.take("C", default=2),
        "intra_model": block,
        "inter_model": block,
        "linear_layer_after_inter_intra": False,
    }
    renamed = {key.replace("_mdl.transformer.", "_mdl.mdl.", 1): value for key, value in state.items()}
    return convert_dual_path(*_wrapped(values, masknet, renamed, masknet["in_channels"]))


@CONVERTERS.register("resepformer")
def convert_resepformer(arguments: Mapping[str, Any], state: Mapping[str, Tensor]) -> Converted:
    """Convert RE-SepFormer."""
    values = Arguments(arguments, "original RE-SepFormer")
    filters = values.take("N", default=128)
    block = _block(values, "SBTransformerBlock_wnormandskip", filters, default_positions=True)
    masknet = {
        "input_dim": filters,
        "num_spk": values.take("C", default=2),
        "layer": values.take("num_blocks", default=2),
        "segment_size": values.take("segment_size", default=150),
        "mem_type": "av",
        "seg_model": block,
        "mem_model": block,
    }
    return convert_separator(*_wrapped(values, masknet, state, filters))


def _block(values: Arguments, class_name: str, d_model: Any, *, default_positions: bool) -> Instance:
    arguments = {
        "num_layers": values.take("num_layers", default=8),
        "d_model": d_model,
        "nhead": values.take("nhead", default=8),
        "d_ffn": values.take("d_ffn", default=1024),
        "dropout": values.take("dropout", default=0.0),
        "use_positional_encoding": values.take("use_positional_encoding", default=default_positions),
        "norm_before": True,
    }
    return Instance(class_name, arguments)


def _wrapped(
    values: Arguments, masknet: dict[str, Any], state: Mapping[str, Tensor], num_filters: Any
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    kernel, stride = values.take("kernel_size", default=16), values.take("stride", default=8)
    values.ignore("causal")  # never reached the network
    values.finish()
    return wrapped(masknet, state, "masknet", num_filters, kernel, stride)
