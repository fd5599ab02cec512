"""What the observations of a result come to: medians over all rounds, ratios round by round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from polsess.benchmark.results import Mode, ModelResult, PeerResult, Settings, Timing
from polsess.benchmark.spread import Spread, growth_exponent, percentile, spread
from polsess.benchmark.visiting import grown_bytes


@dataclass(frozen=True)
class Cost:
    """Of one mode and length, over all rounds.

    Attributes:
        latency: Seconds by the wall clock.
        p95: Of the latency.
        cpu: Seconds of all threads.
        realtime_factor: Latency per second of audio.
        peak_bytes: The median over the rounds; None where it was not told.
        grown_bytes: The same above the process at rest.
    """

    latency: Spread
    p95: float
    cpu: Spread
    realtime_factor: float
    peak_bytes: float | None
    grown_bytes: float | None


@dataclass(frozen=True)
class Ratio:
    """A peer's time over ours, of one mode and length, by the clock that ``clock`` names.

    Attributes:
        times: Over the rounds; above 1 we are faster.
        ours: Median seconds of a pass.
        theirs: Likewise.
        memory: Their growth of memory over ours; None where it was not told or nothing grew.
    """

    mode: Mode
    seconds: float
    clock: str
    times: Spread
    ours: float
    theirs: float
    memory: float | None


def costs(model: ModelResult, mode: Mode) -> dict[float, Cost]:
    """By length, ascending."""
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


def memory_exponent(model: ModelResult) -> float | None:
    """The power of the length with which the memory of inference grows; 1 is proportional."""
    return growth_exponent(grown_bytes([timing for timing in model.timings if timing.mode == "inference"]))


def time_exponent(model: ModelResult) -> float | None:
    """The power of the length with which the CPU time, or the latency on a GPU, of inference grows."""
    return growth_exponent({seconds: cost.cpu.median for seconds, cost in costs(model, "inference").items()})


def ratios(peer: PeerResult, settings: Settings) -> list[Ratio]:
    """Of every mode and length that was measured; none for a peer that was refused."""
    if peer.refused:
        return []
    # CPU seconds of one thread are less disturbed by what else the machine does.
    clock = "cpu" if settings.device == "cpu" and settings.threads == 1 else "wall"
    measured = dict.fromkeys((timing.mode, timing.seconds) for timing in peer.ours)
    return [_ratio(peer, mode, seconds, clock) for mode, seconds in measured]


def _ratio(peer: PeerResult, mode: Mode, seconds: float, clock: str) -> Ratio:
    ours, theirs = (
        [timing for timing in side if timing.mode == mode and timing.seconds == seconds]
        for side in (peer.ours, peer.theirs)
    )
    rounds = zip(ours, theirs, strict=True)
    quotients = [sum(_clock(other, clock)) / sum(_clock(own, clock)) for own, other in rounds]
    grown, their_grown = (grown_bytes(side).get(seconds) for side in (ours, theirs))
    return Ratio(
        mode=mode,
        seconds=seconds,
        clock=clock,
        times=spread(quotients),
        ours=percentile([each for timing in ours for each in _clock(timing, clock)], 50),
        theirs=percentile([each for timing in theirs for each in _clock(timing, clock)], 50),
        memory=their_grown / grown if grown and their_grown else None,
    )


def _clock(timing: Timing, clock: str) -> tuple[float, ...]:
    return timing.cpu if clock == "cpu" else timing.wall
