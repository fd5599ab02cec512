"""Reading the constructor arguments of SpeechBrain's classes, and renaming their tensors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from polsess.checkpoints.formats import CheckpointError
from polsess.schema import suggest

REQUIRED = object()
"""In a table of defaults: the constructor has none."""

_ENCODER = {"kernel_size": 2, "out_channels": 64, "in_channels": 1}
_DECODER = {
    "in_channels": REQUIRED,
    "out_channels": REQUIRED,
    "kernel_size": REQUIRED,
    "stride": 1,
    "padding": 0,
    "output_padding": 0,
    "groups": 1,
    "bias": True,
    "dilation": 1,
    "padding_mode": "zeros",
}
_NORMS = {"ln": "gLN", "gln": "gLN", "cln": "cLN"}  # over four dimensions "ln" and "gln" are one formula


def complete(where: str, arguments: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a constructor, those left out at their defaults.

    Args:
        where: The class or the place in the file, for messages.
        arguments: As the file gives them.
        defaults: Every argument of the constructor; ``REQUIRED`` where it has no default.

    Raises:
        CheckpointError: If an argument is unknown or missing.
    """
    for name in arguments:
        if name not in defaults:
            hint = suggest(str(name), list(defaults), "Known")
            raise CheckpointError(f"{where}.{name}: unknown argument.{hint}")
    values = {**defaults, **arguments}
    missing = [name for name, value in values.items() if value is REQUIRED]
    if missing:
        raise CheckpointError(f"{where}.{missing[0]}: missing.")
    return values


def require(where: str, values: Mapping[str, Any], **expected: Any) -> None:
    """Check arguments of which one value only is read.

    Raises:
        CheckpointError: If one has another value.
    """
    for name, value in expected.items():
        if values[name] != value:
            raise CheckpointError(f"{where}.{name}: only {value!r} is read, got {values[name]!r}.")


def norm_name(where: str, name: Any) -> str:
    """Our name of a norm that ``select_norm`` of SpeechBrain knows.

    Raises:
        CheckpointError: If it is another: SpeechBrain then takes a batch normalisation, whatever the word.
    """
    if not isinstance(name, str) or name not in _NORMS:
        raise CheckpointError(f"{where}: the norms read are {', '.join(_NORMS)}; got {name!r}.")
    return _NORMS[name]


def read_filterbank(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a model's configuration that encoder, decoder and sample rate give.

    Raises:
        CheckpointError: If the encoder or decoder has a form that no model here has.
    """
    encoder = complete("encoder", arguments["encoder"], _ENCODER)
    decoder = complete("decoder", arguments["decoder"], _DECODER)
    require("encoder", encoder, in_channels=1)
    kernel_size = encoder["kernel_size"]
    if not isinstance(kernel_size, int):
        raise CheckpointError(f"encoder.kernel_size: expected a whole number, got {kernel_size!r}.")
    require("decoder", decoder, out_channels=1, kernel_size=kernel_size, stride=kernel_size // 2)
    require("decoder", decoder, padding=0, output_padding=0, groups=1, bias=False, dilation=1)
    return {
        "num_filters": encoder["out_channels"],
        "kernel_size": kernel_size,
        "sample_rate": arguments["sample_rate"],
    }


FILTERBANK_NAMES = (
    (r"encoder\.conv1d\.weight", "encoder.conv.weight"),
    (r"decoder\.weight", "decoder.conv.weight"),
)
"""Where the filters stand: patterns for ``rename``."""


def rename(state: Mapping[str, Tensor], names: Iterable[tuple[str, str]]) -> dict[str, Tensor]:
    """Rename tensors by the first pattern that fits the whole name; others keep theirs.

    Filters of length one are linear maps here and lose that dimension, norms have one dimension.
    """
    patterns = [(re.compile(pattern), name) for pattern, name in names]
    renamed = {_renamed(key, patterns): value for key, value in state.items()}
    return {key: _reshaped(key, value) for key, value in renamed.items()}


def _renamed(key: str, patterns: list[tuple[re.Pattern[str], str]]) -> str:
    for pattern, name in patterns:
        if match := pattern.fullmatch(key):
            return match.expand(name)
    return key


def _reshaped(key: str, value: Tensor) -> Tensor:
    if re.search(r"norm\.(weight|bias)$", key):
        return value.flatten()
    while value.ndim > 2 and value.shape[-1] == 1:
        value = value.squeeze(-1)
    return value
