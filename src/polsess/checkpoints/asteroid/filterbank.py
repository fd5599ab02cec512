"""Asteroid's free filterbank: the arguments and tensors that its time-domain models share."""

from __future__ import annotations

from typing import Any

from polsess.checkpoints.arguments import Arguments
from polsess.checkpoints.formats import CheckpointError
from polsess.checkpoints.names import Rule

FILTERBANK_RULES: list[Rule] = [
    (r"encoder\.filterbank\._filters", "encoder.conv.weight"),
    (r"decoder\.filterbank\._filters", "decoder.conv.weight"),
]

_ACTIVATIONS = {None: "linear", "linear": "linear", "relu": "relu"}


def read_filterbank(
    arguments: Arguments,
    where: str,
    activation: str | None = None,
    *,
    num_filters: int = 512,
    kernel_size: int = 16,
) -> dict[str, Any]:
    """The fields of a configuration that describe the filterbank, and the sample rate.

    Files from before Asteroid 0.3.1 name neither the encoder's activation nor the rate, which was 8 kHz.

    Args:
        arguments: The model's arguments, from which these are taken.
        where: The class, for messages.
        activation: The encoder's activation where the file names none.
        num_filters: The number of filters where the file names none.
        kernel_size: Their length where the file names none.

    Raises:
        CheckpointError: If the filterbank is not a free one, or the masks are not as wide as the features.
    """
    arguments.choose("fb_name", dict.fromkeys(["FreeFB", "free"]), default="free")
    filters = arguments.take("n_filters", default=num_filters)
    kernel = arguments.take("kernel_size", default=kernel_size)
    for name in ("in_chan", "out_chan"):
        width = arguments.take(name, default=None)
        if width not in (None, filters):
            raise CheckpointError(f"{where}: {name}={width!r} differs from the {filters} filters; not read.")
    return {
        "num_filters": filters,
        "kernel_size": kernel,
        "stride": arguments.take("stride", default=None) or kernel // 2,
        "encoder_activation": arguments.choose("encoder_activation", _ACTIVATIONS, default=activation),
        "sample_rate": int(arguments.take("sample_rate", default=8000)),
    }
