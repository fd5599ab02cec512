"""From the scores of frames to regions in which nobody, one or several talk, and to pieces of one voice.

Shapes: L frames.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Frames = tuple[int, int]
"""First and behind-the-last frame of a stretch."""
Mask = NDArray[np.bool_]
"""``[L]``."""
_SURE = 0.9
"""Probability of several voices that the detector hardly ever gives to one in noise."""


@dataclass(frozen=True)
class RegionConfig:
    """Thresholds and smoothing; overlap is tuned for precision, since a false overlap does more harm."""

    speech_on: float = 0.5
    """Probability of speech from which a stretch of it begins."""
    speech_off: float = 0.4
    """Probability below which it ends: what is missed is cut from a track."""
    overlap_on: float = 0.43
    """Probability of several voices from which a frame is overlap."""
    overlap_off: float = 0.1
    """What is separated reaches from overlap to where the probability falls below this: a separator that has
    learnt from partial overlap does little harm to one voice, and much of an overlap's edges is missed."""
    shortest_seconds: float = 0.1
    """Shorter stretches and overlaps are dropped."""
    join_seconds: float = 0.06
    """Shorter gaps are closed."""
    overlap_pad_seconds: float = 0.1
    """Voices are told from speech further from overlap than this; twice this is separated around it."""
    speech_pad_seconds: float = 0.06
    """Speech is widened by this on both sides before it is passed through."""
    longest_piece_seconds: float = 2.4
    """Longer talk of one voice is cut into several pieces, from which it is found what voices there are."""
    step_seconds: float = 0.25
    """Whose voice it is is then decided in steps of about this length."""
    window_seconds: float = 0.6
    """For each step the voice is heard for this long around its middle, as far as there is talk."""


@dataclass(frozen=True)
class Regions:
    """How many talk, frame by frame."""

    speech: Mask
    """``[L]``: somebody talks."""
    overlap: Mask
    """``[L]``: several talk; a part of ``speech``."""
    wide_speech: Mask
    """``[L]``: speech with its margins."""
    wide_overlap: Mask
    """``[L]``: overlap with its margins; a part of ``wide_speech``."""
    unsure: Mask
    """``[L]``: overlap as far as it may reach, with its margins; holds ``wide_overlap`` and is a part of
    ``wide_speech``."""
    hop_seconds: float
    """From one frame to the next."""
    expected_overlap: float
    """Expected time in which several talk over that in which anybody does; 0 where nobody talks."""
    sure_overlap: float
    """Time in which several surely talk over that in which anybody does; 0 where nobody talks."""

    @property
    def solo(self) -> Mask:
        """``[L]``: at most one talks, with margins."""
        return self.wide_speech & ~self.wide_overlap

    @property
    def overlap_share(self) -> float:
        """Overlap over speech; 0 where nobody talks."""
        return float(self.overlap.sum() / max(1, self.speech.sum()))


def find_regions(probabilities: NDArray[np.float32], hop_seconds: float, config: RegionConfig) -> Regions:
    """Smooth the probabilities of nobody, one and several ``[L, 3]`` into regions."""
    join, shortest, pad, speech_pad = (
        round(seconds / hop_seconds)
        for seconds in (
            config.join_seconds,
            config.shortest_seconds,
            config.overlap_pad_seconds,
            config.speech_pad_seconds,
        )
    )
    talk = 1 - probabilities[:, 0]
    speech = _smooth(_hysteresis(talk, config.speech_on, config.speech_off), join, shortest)
    several = probabilities[:, 2]
    overlap = _smooth(several >= config.overlap_on, join, shortest)
    speech = speech | overlap
    wide_speech = _widen(speech, speech_pad)
    reach = _containing((several >= config.overlap_off) | overlap, overlap)
    expected = float(several.sum() / talk.sum()) if speech.any() else 0.0
    return Regions(
        speech,
        overlap,
        wide_speech,
        _widen(overlap, pad) & wide_speech,
        _widen(reach, 2 * pad) & wide_speech,
        hop_seconds,
        min(1.0, expected),
        float((several >= _SURE).sum() / max(1, speech.sum())),
    )


def list_runs(active: Mask) -> list[Frames]:
    """First and behind-the-last frame of every run of active frames."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], active, [False]]).astype(np.int8)))
    return [(int(first), int(last)) for first, last in edges.reshape(-1, 2)]


def cut_pieces(regions: Regions, probabilities: NDArray[np.float32], config: RegionConfig) -> list[Frames]:
    """Cut the solo regions into pieces, each probably of one voice.

    They are cut where speech pauses, however shortly, since another may go on there, and where they would be
    longer than ``longest_piece_seconds``.
    """
    longest = max(1, round(config.longest_piece_seconds / regions.hop_seconds))
    pauses = probabilities[:, 0] > 0.5
    pieces: list[Frames] = []
    for first, last in list_runs(regions.solo):
        inner = [
            first + (begin + end) // 2
            for begin, end in list_runs(pauses[first:last])
            if begin > 0 and first + end < last
        ]
        edges = [first, *inner, last]
        for begin, end in itertools.pairwise(edges):
            count = -(-(end - begin) // longest)
            cuts = np.linspace(begin, end, count + 1).round().astype(int).tolist()
            pieces += list(itertools.pairwise(cuts))
    return pieces


def cut_steps(
    regions: Regions, pieces: list[Frames], config: RegionConfig
) -> tuple[list[Frames], list[Frames]]:
    """Cut pieces into short steps, and the window around each of them from which its voice is told."""
    step, reach = (
        max(1, round(seconds / regions.hop_seconds))
        for seconds in (config.step_seconds, config.window_seconds / 2)
    )
    run_of = {frame: run for run in list_runs(regions.solo) for frame in range(*run)}
    steps: list[Frames] = []
    windows: list[Frames] = []
    for first, last in pieces:
        count = max(1, round((last - first) / step))
        cuts = np.linspace(first, last, count + 1).round().astype(int).tolist()
        for begin, end in itertools.pairwise(cuts):
            lowest, highest = run_of[begin]
            middle = (begin + end) // 2
            steps.append((begin, end))
            windows.append((max(lowest, middle - reach), min(highest, max(end, middle + reach))))
    return steps, windows


def _hysteresis(scores: NDArray[np.float32], on: float, off: float) -> Mask:
    """Runs above ``off`` that reach ``on``."""
    return _containing(scores >= off, scores >= on)


def _containing(active: Mask, inner: Mask) -> Mask:
    """Runs of active frames of which some are in ``inner``."""
    kept = np.zeros_like(active)
    for first, last in list_runs(active):
        kept[first:last] = inner[first:last].any()
    return kept


def _smooth(active: Mask, shortest_gap: int, shortest_run: int) -> Mask:
    smoothed = active.copy()
    for first, last in list_runs(~active):
        if last - first < shortest_gap and first > 0 and last < len(active):
            smoothed[first:last] = True
    for first, last in list_runs(smoothed):
        if last - first < shortest_run:
            smoothed[first:last] = False
    return smoothed


def _widen(active: Mask, frames: int) -> Mask:
    widened = active.copy()
    for first, last in list_runs(active):
        widened[max(0, first - frames) : last + frames] = True
    return widened
