"""Medians, quartiles, percentiles, and how something grows with length."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Spread:
    """A median between its quartiles, of ``count`` values."""

    median: float
    low: float
    high: float
    count: int


def spread(values: Sequence[float]) -> Spread:
    """Median and quartiles, interpolated.

    Raises:
        ValueError: If there are no values.
    """
    return Spread(percentile(values, 50), percentile(values, 25), percentile(values, 75), len(values))


def percentile(values: Sequence[float], percent: float) -> float:
    """Interpolated between the two nearest values.

    Raises:
        ValueError: If there are no values.
    """
    if not values:
        raise ValueError("values: expected at least one.")
    ordered = sorted(values)
    place = (len(ordered) - 1) * percent / 100
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def growth_exponent(values: Mapping[float, float]) -> float | None:
    """The p of ``value = a * length ** p`` by least squares on logarithms.

    Args:
        values: By length; those that are not above zero say nothing and are left out.

    Returns:
        None with fewer than two lengths.
    """
    points = [(math.log(length), math.log(value)) for length, value in values.items() if value > 0 < length]
    if len(points) < 2:
        return None
    slope, _ = statistics.linear_regression(*zip(*points, strict=True))
    return slope
