"""Nested settings and their dotted keys, e.g. ``training.optimizer.learning_rate``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def flatten(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of nested settings with its dotted key."""
    for key, value in data.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def nest(key: str, value: Any) -> dict[str, Any]:
    """The nested settings that hold one value at a dotted key."""
    first, dot, rest = key.partition(".")
    return {first: nest(rest, value) if dot else value}


def look_up(data: Any, key: str) -> Any:
    """The value at a dotted key of nested settings; None if there is none."""
    for part in key.split("."):
        data = data.get(part) if isinstance(data, Mapping) else None
    return data
