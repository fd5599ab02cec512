"""What takes minutes to find out about the models, stored as data: `benchmarks/model_facts.py` writes it."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from importlib.resources import files
from typing import Any


@dataclass(frozen=True)
class GoldenError:
    """How far estimates are from those of the reference implementation, with its weights.

    Attributes:
        reference: Whose code.
        relative: Norm of the difference over the norm of the reference's estimates, float32, the largest of
            all golden cases.
    """

    reference: str
    relative: float


def macs_per_second(model: str, preset: str) -> int | None:
    """Stored MACs per second of audio; None for a preset that is newer than the store."""
    found: int | None = _stored()["macs_per_second"].get(model, {}).get(preset)
    return found


def golden_errors(model: str) -> tuple[GoldenError, ...]:
    """Stored distances of one architecture; empty where there is no reference."""
    return tuple(GoldenError(*item) for item in _stored()["golden_errors"].get(model, {}).items())


@functools.cache
def _stored() -> dict[str, Any]:
    text = (files("polsess.overview") / "model_facts.json").read_text("utf-8")
    stored: dict[str, Any] = json.loads(text)
    return stored
