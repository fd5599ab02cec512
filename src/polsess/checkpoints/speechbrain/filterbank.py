"""SpeechBrain's ``dual_path.Encoder`` and ``Decoder``: rectified, with a stride of half the kernel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from polsess.checkpoints.arguments import Arguments
from polsess.checkpoints.formats import CheckpointError


def read_filterbank(arguments: Mapping[str, Any]) -> dict[str, int]:
    """The ``kernel_size`` of a network; filters and stride are checked to fit together.

    Args:
        arguments: Of encoder and decoder, as converters get them.

    Raises:
        CheckpointError: If encoder and decoder do not fit, or have what our filterbank does not offer.
    """
    encoder = Arguments(arguments["encoder"], "SpeechBrain Encoder")
    decoder = Arguments(arguments["decoder"], "SpeechBrain Decoder")
    kernel, filters = encoder.take("kernel_size", default=2), encoder.take("out_channels", default=64)
    if not isinstance(kernel, int):
        raise CheckpointError(f"SpeechBrain Encoder: kernel_size={kernel!r} is not a whole number.")
    encoder.expect("in_channels", 1)
    encoder.finish()
    wanted = {"kernel_size": kernel, "stride": kernel // 2, "in_channels": filters, "out_channels": 1}
    for name, value in wanted.items():
        found = decoder.take(name)
        if found != value:
            raise CheckpointError(
                f"SpeechBrain Decoder: {name}={found!r} does not fit the encoder, {value} would."
            )
    decoder.expect("bias", False)
    decoder.finish()
    return {"kernel_size": kernel}
