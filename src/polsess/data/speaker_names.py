"""The speakers that the conditions of a mixture name."""

from __future__ import annotations

import re
from collections.abc import Mapping

_KEY = re.compile(r"speakers|speaker(_?\d+)?")
_NOBODY = ("", "unknown", "none")


def is_speaker_key(key: str) -> bool:
    """Whether it names speakers: ``speakers`` (``anna-jan``), ``speaker``, ``speaker_1``, ``speaker2``."""
    return _KEY.fullmatch(key) is not None


def speakers_in(conditions: Mapping[str, str | float]) -> tuple[str, ...]:
    """The speakers that conditions name, in their order; ``unknown`` and ``none`` are nobody."""
    names = [
        name
        for key, value in conditions.items()
        if is_speaker_key(key)
        for name in (str(value).split("-") if key == "speakers" else [_without_decimals(value)])
    ]
    return tuple(name for name in names if name not in _NOBODY)


def _without_decimals(value: str | float) -> str:
    """The value as a name; whole numbers that a table turned into floats lose their decimals."""
    return f"{value:.0f}" if isinstance(value, float) and value.is_integer() else str(value)
