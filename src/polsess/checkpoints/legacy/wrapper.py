"""The wrapper of the original project: SpeechBrain's encoder, decoder and a mask network at 8 kHz."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

SAMPLE_RATE = 8000


def wrapped(
    masknet: Mapping[str, Any],
    state: Mapping[str, Tensor],
    prefix: str,
    num_filters: int,
    kernel_size: int,
    stride: int,
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Arguments and tensors as the converters of SpeechBrain take them.

    Args:
        masknet: The mask network's arguments.
        state: The wrapper's tensors.
        prefix: Its name of the mask network.
        num_filters: Filters of the encoder.
        kernel_size: Samples of a filter.
        stride: Samples between the decoder's frames; the encoder always took half a filter.
    """
    decoder = {"in_channels": num_filters, "out_channels": 1, "kernel_size": kernel_size, "stride": stride}
    arguments = {
        "encoder": {"kernel_size": kernel_size, "out_channels": num_filters},
        "masknet": dict(masknet),
        "decoder": decoder,
        "sample_rate": SAMPLE_RATE,
    }
    renamed = {
        key.replace(f"{prefix}.", "masknet.", 1) if key.startswith(f"{prefix}.") else key: value
        for key, value in state.items()
    }
    return arguments, renamed
