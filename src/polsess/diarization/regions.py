"""From the scores of frames to regions in which nobody, one or several talk.

Shapes: L frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from polsess.schema import Schema


class RegionConfig(Schema):
    """Thresholds and smoothing; overlap is tuned for precision, since a false overlap does more harm."""

    speech_on: float = 0.5
    """Probability of speech from which a stretch of it begins."""
    speech_off: float = 0.35
    """Probability below which it ends."""
    overlap_on: float = 0.6
    """Probability of several voices from which an overlap begins."""
    overlap_off: float = 0.4
    """Probability below which it ends."""
    shortest_seconds: float = 0.1
    """Shorter stretches and overlaps are dropped."""
    join_seconds: float = 0.2
    """Shorter gaps are closed."""
    overlap_pad_seconds: float = 0.1
    """Overlaps are widened by this on both sides, within speech."""
    speech_pad_seconds: float = 0.06
    """Speech is widened by this on both sides."""


@dataclass(frozen=True)
class Regions:
    """How many talk, frame by frame."""

    speech: NDArray[np.bool_]
    """``[L]``: somebody talks."""
    overlap: NDArray[np.bool_]
    """``[L]``: several talk; a part of ``speech``."""
    hop_seconds: float
    """From one frame to the next."""

    @property
    def solo(self) -> NDArray[np.bool_]:
        """``[L]``: exactly one talks."""
        return self.speech & ~self.overlap

    @property
    def overlap_share(self) -> float:
        """Overlap over speech; 0 where nobody talks."""
        return float(self.overlap.sum() / max(1, self.speech.sum()))


def find_regions(probabilities: NDArray[np.float32], hop_seconds: float, config: RegionConfig) -> Regions:
    """Smooth the probabilities of nobody, one and several ``[L, 3]`` into regions."""
    frames = {
        name: round(getattr(config, name) / hop_seconds)
        for name in RegionConfig.model_fields
        if name.endswith("_seconds")
    }
    speech = _hysteresis(1 - probabilities[:, 0], config.speech_on, config.speech_off)
    speech = _smooth(speech, frames["join_seconds"], frames["shortest_seconds"])
    speech = _widen(speech, frames["speech_pad_seconds"])
    overlap = _hysteresis(probabilities[:, 2], config.overlap_on, config.overlap_off)
    overlap = _smooth(overlap, frames["join_seconds"], frames["shortest_seconds"])
    overlap = _widen(overlap, frames["overlap_pad_seconds"]) & speech
    return Regions(speech, overlap, hop_seconds)


def list_runs(active: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and behind-the-last frame of every run of active frames."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], active, [False]]).astype(np.int8)))
    return [(int(first), int(last)) for first, last in edges.reshape(-1, 2)]


def _hysteresis(scores: NDArray[np.float32], on: float, off: float) -> NDArray[np.bool_]:
    """Runs above ``off`` that reach ``on``."""
    kept = np.zeros(len(scores), bool)
    for first, last in list_runs(scores >= off):
        kept[first:last] = scores[first:last].max() >= on
    return kept


def _smooth(active: NDArray[np.bool_], shortest_gap: int, shortest_run: int) -> NDArray[np.bool_]:
    smoothed = active.copy()
    for first, last in list_runs(~active):
        if last - first < shortest_gap and first > 0 and last < len(active):
            smoothed[first:last] = True
    for first, last in list_runs(smoothed):
        if last - first < shortest_run:
            smoothed[first:last] = False
    return smoothed


def _widen(active: NDArray[np.bool_], frames: int) -> NDArray[np.bool_]:
    widened = active.copy()
    for shift in range(1, frames + 1):
        widened[shift:] |= active[:-shift]
        widened[:-shift] |= active[shift:]
    return widened
