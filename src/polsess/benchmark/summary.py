"""Summary of the observations of a result: medians between quartiles over all rounds, and growth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from polsess.benchmark.results import Mode, ModelResult, Timing
from polsess.measurement import growth_exponent


@dataclass(frozen=True)
class Spread:
    """A median between its quartiles, of ``count`` values."""

    median: float
    low: float
    high: float
    count: int


def spread(values: Sequence[float]) -> Spread:
    """Return median and quartiles, interpolated.

    Raises:
        ValueError: If there are no values.
    """
    return Spread(percentile(values, 50), percentile(values, 25), percentile(values, 75), len(values))


def percentile(values: Sequence[float], percent: float) -> float:
    """Return a percentile, interpolated between the two nearest values.

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


@dataclass(frozen=True)
class Cost:
    """Costs of one mode and length, over all rounds.

    Attributes:
        latency: Seconds by the wall clock.
        p95: 95th percentile of the latency.
        cpu: Seconds of all threads.
        realtime_factor: Latency per second of audio.
        peak_bytes: The median over the rounds; None where the system did not report it.
        grown_bytes: The same above the process at rest.
    """

    latency: Spread
    p95: float
    cpu: Spread
    realtime_factor: float
    peak_bytes: float | None
    grown_bytes: float | None


def costs(model: ModelResult, mode: Mode) -> dict[float, Cost]:
    """Return the costs of a mode by length, ascending."""
    of_mode = [timing for timing in model.timings if timing.mode == mode]
    return {seconds: _cost(of_mode, seconds) for seconds in sorted({each.seconds for each in of_mode})}


def _cost(timings: Sequence[Timing], seconds: float) -> Cost:
    same = [timing for timing in timings if timing.seconds == seconds]
    wall = [each for timing in same for each in timing.wall]
    peaks = [timing.peak_bytes for timing in same if timing.peak_bytes is not None]
    return Cost(
        latency=spread(wall),
        p95=percentile(wall, 95),
        cpu=spread([each for timing in same for each in timing.cpu]),
        realtime_factor=percentile(wall, 50) / seconds,
        peak_bytes=percentile(peaks, 50) if peaks else None,
        grown_bytes=grown_bytes(same).get(seconds),
    )


@dataclass(frozen=True)
class StreamCost:
    """Costs of a stream, over all rounds.

    Attributes:
        realtime_factor: Seconds by the wall clock per second of sound.
        cpu_factor: Seconds of all threads per second of sound.
        push: Seconds by the wall clock of a push.
        p95: 95th percentile of these.
        worst: Of the slowest push.
        worst_cpu: Seconds of all threads of the push that took most of them.
    """

    realtime_factor: float
    cpu_factor: float
    push: Spread
    p95: float
    worst: float
    worst_cpu: float


def stream_cost(model: ModelResult) -> StreamCost | None:
    """Return the costs of a model's stream; None where none was measured."""
    pushes = [timing for timing in model.timings if timing.mode == "streaming"]
    if not pushes:
        return None
    wall = [each for timing in pushes for each in timing.wall]
    cpu = [each for timing in pushes for each in timing.cpu]
    heard = sum(timing.seconds * len(timing.wall) for timing in pushes)
    return StreamCost(
        sum(wall) / heard, sum(cpu) / heard, spread(wall), percentile(wall, 95), max(wall), max(cpu)
    )


def memory_exponent(model: ModelResult) -> float | None:
    """Return the power of the length with which the memory of inference grows; 1 is proportional."""
    return growth_exponent(grown_bytes([timing for timing in model.timings if timing.mode == "inference"]))


def time_exponent(model: ModelResult) -> float | None:
    """Return the power of the length with which the CPU time of inference grows."""
    return growth_exponent({seconds: cost.cpu.median for seconds, cost in costs(model, "inference").items()})


def grown_bytes(timings: Sequence[Timing]) -> dict[float, float]:
    """Return the median growth of memory above the process at rest, by length."""
    found: dict[float, list[float]] = {}
    for timing in timings:
        if timing.peak_bytes is not None and timing.rest_bytes is not None:
            found.setdefault(timing.seconds, []).append(timing.peak_bytes - timing.rest_bytes)
    return {seconds: percentile(values, 50) for seconds, values in found.items()}
