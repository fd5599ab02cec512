"""SpeechBrain's ``conv_tasnet.MaskNet`` between ``dual_path.Encoder`` and ``Decoder``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from polsess.checkpoints.formats import Converted
from polsess.checkpoints.toolkits.speechbrain.reader import CONVERTERS, read_filterbank
from polsess.checkpoints.translation import Arguments, Rule, rename
from polsess.checkpoints.unpickling import CheckpointError

_NORMS = {"gLN": "gLN", "cLN": "cLN"}
_MASKS = {"relu": "relu", "softmax": "filter_softmax"}
_CONV = r"masknet\.temporal_conv_net\.temporalblock_(\d+)_(\d+)\.layers\."
_RULES: list[Rule] = [
    (r"encoder\.conv1d\.weight", "encoder.conv.weight"),
    (r"decoder\.weight", "decoder.conv.weight"),
    (r"masknet\.layer_norm\.gamma", "input_norm.weight"),
    (r"masknet\.layer_norm\.beta", "input_norm.bias"),
    (r"masknet\.bottleneck_conv1x1\.conv\.weight", "bottleneck.weight"),
    (r"masknet\.mask_conv1x1\.conv\.weight", "to_masks.weight"),
    (_CONV + r"conv\.conv\.weight", r"blocks.\1.\2.expand.weight"),
    (_CONV + r"act\.weight", r"blocks.\1.\2.expand_prelu.weight"),
    (_CONV + r"norm\.gamma", r"blocks.\1.\2.expand_norm.weight"),
    (_CONV + r"norm\.beta", r"blocks.\1.\2.expand_norm.bias"),
    (_CONV + r"DSconv\.conv_0\.conv\.weight", r"blocks.\1.\2.depthwise.weight"),
    (_CONV + r"DSconv\.act\.weight", r"blocks.\1.\2.depthwise_prelu.weight"),
    (_CONV + r"DSconv\.act_0\.gamma", r"blocks.\1.\2.depthwise_norm.weight"),  # act_0 is the second norm
    (_CONV + r"DSconv\.act_0\.beta", r"blocks.\1.\2.depthwise_norm.bias"),
    (_CONV + r"DSconv\.conv_1\.conv\.weight", r"blocks.\1.\2.outputs.weight"),
]


@CONVERTERS.register("MaskNet")
def convert_convtasnet(arguments: Mapping[str, Any], state: Mapping[str, Tensor]) -> Converted:
    """Convert; there are no biases and no skip path, and the first norm is always channel-wise."""
    masknet = Arguments(arguments["masknet"], "SpeechBrain MaskNet")
    num_blocks, causal = masknet.take("X"), masknet.take("causal", default=False)
    kernel_size = masknet.take("P")
    if causal and kernel_size == 1:
        raise CheckpointError("SpeechBrain MaskNet: P=1 with causal=True left no frames there.")
    model = {
        "model_type": "convtasnet",
        "num_sources": masknet.take("C"),
        "sample_rate": arguments["sample_rate"],
        "num_filters": masknet.take("N"),
        "encoder_activation": "relu",
        "bottleneck_channels": masknet.take("B"),
        "hidden_channels": masknet.take("H"),
        "skip_channels": 0,
        "conv_kernel_size": kernel_size,
        "num_blocks": num_blocks,
        "num_repeats": masknet.take("R"),
        "norm": masknet.choose("norm_type", _NORMS, default="gLN"),
        "input_norm": "cLN",
        "padding": "delayed" if causal else "reflect",
        "causal": causal,
        "bias": False,
        "mask_prelu": False,
        "mask_activation": masknet.choose("mask_nonlinear", _MASKS, default="relu"),
        **read_filterbank(arguments),
    }
    masknet.finish()
    renamed = rename(state, _RULES, "SpeechBrain MaskNet")
    return Converted(
        model, {_flat_name(key, num_blocks): _flat(key, value) for key, value in renamed.items()}
    )


def _flat_name(key: str, num_blocks: int) -> str:
    """Blocks counted through all repeats."""
    if not key.startswith("blocks."):
        return key
    _, repeat, block, rest = key.split(".", 3)
    return f"blocks.{int(repeat) * num_blocks + int(block)}.{rest}"


def _flat(key: str, value: Tensor) -> Tensor:
    """Norms without their leading dimensions of size one."""
    return value.flatten() if "norm." in key else value
