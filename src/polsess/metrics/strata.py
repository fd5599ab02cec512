"""Groups of a test set by a condition, as the kind of noise or the share of overlap."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from polsess.text_tables import condition

_MAX_LABELS = 10
"""More distinct numbers than this are grouped by quartile."""


def group_by_condition(values: Sequence[str | float | None]) -> dict[str, list[int]]:
    """Indices of the items by the label of their condition; numbers of many values are split at quartiles.

    Args:
        values: The condition of each item; items without one are left out.
    """
    label_of = _labels([value for value in values if value is not None])
    groups: dict[str, list[int]] = {}
    for index, value in enumerate(values):
        if value is not None:
            groups.setdefault(label_of(value), []).append(index)
    return {label: groups[label] for label in sorted(groups, key=lambda label: (_number(label), label))}


def _labels(values: list[str | float]) -> Callable[[Any], str]:
    """A function that maps a condition to the name of its group."""
    numbers = [value for value in values if isinstance(value, int | float) and math.isfinite(value)]
    if len(numbers) < len(values) or len(set(values)) <= _MAX_LABELS:
        return condition
    edges = np.quantile(numbers, [0, 0.25, 0.5, 0.75, 1])
    names = [f"{low:.3g} to {high:.3g}" for low, high in pairwise(edges)]
    return lambda value: names[int(np.searchsorted(edges[1:-1], value, side="right"))]


def _number(label: str) -> float:
    """The number at the start of a label, to sort the groups by."""
    try:
        return float(label.split(" to ")[0])
    except ValueError:
        return math.inf
