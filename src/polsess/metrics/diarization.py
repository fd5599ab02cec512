"""The diarization error: how much of who talks when is missed, invented or attributed to somebody else.

(missed + false alarm + confusion) / speaker time of the reference, under the best one-to-one mapping of
speakers (NIST, "The 2009 (RT-09) Rich Transcription Meeting Recognition Evaluation Plan"). Times are exact,
not rounded to frames, and overlaps are scored.

Shapes: S speakers of the reference, K of the hypothesis, N spans between neighbouring changes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from polsess.timelines import Timeline, list_speakers


@dataclass(frozen=True)
class DiarizationError:
    """Parts of the diarization error in seconds; ``+`` pools recordings."""

    missed: float
    """Speaker time without a hypothesis."""
    false_alarm: float
    """Hypothesised speaker time without a reference."""
    confusion: float
    """Speaker time attributed to another speaker."""
    scored: float
    """Speaker time of the reference."""

    @property
    def rate(self) -> float:
        """Sum of the parts over the reference's speaker time; not a number without speech."""
        return self.share(self.missed + self.false_alarm + self.confusion)

    def share(self, seconds: float) -> float:
        """A part over the reference's speaker time; not a number without speech."""
        return seconds / self.scored if self.scored else math.nan

    def __add__(self, other: DiarizationError) -> DiarizationError:
        """The error of both recordings together."""
        return DiarizationError(
            self.missed + other.missed,
            self.false_alarm + other.false_alarm,
            self.confusion + other.confusion,
            self.scored + other.scored,
        )


def diarization_error(
    hypothesis: Timeline, reference: Timeline, *, collar_seconds: float = 0.0
) -> DiarizationError:
    """The diarization error under the best one-to-one mapping of speakers; overlaps are scored.

    Args:
        hypothesis: Turns; the names of their speakers do not matter.
        reference: Turns.
        collar_seconds: Time left out on either side of every start and end in the reference, as md-eval's
            ``-c``; pyannote's ``collar`` is twice as long.
    """
    changes = {time for turn in reference for time in (turn.start, turn.end)}
    collars = [(time - collar_seconds, time + collar_seconds) for time in changes]
    limits = {time for turn in hypothesis for time in (turn.start, turn.end)}
    times = np.array(sorted(changes | limits | {time for collar in collars for time in collar}))
    seconds = np.diff(times)
    for start, end in collars if collar_seconds else ():
        seconds[_span(times, start, end)] = 0.0
    expected, found = _active(reference, times), _active(hypothesis, times)
    joint = (expected * seconds) @ found.T.astype(np.float64)  # [S, K] seconds in common
    rows, columns = linear_sum_assignment(joint, maximize=True)
    num_expected, num_found = expected.sum(0), found.sum(0)
    matched = float(seconds @ np.minimum(num_expected, num_found))
    return DiarizationError(
        missed=float(seconds @ np.maximum(num_expected - num_found, 0)),
        false_alarm=float(seconds @ np.maximum(num_found - num_expected, 0)),
        confusion=max(0.0, matched - float(joint[rows, columns].sum())),
        scored=float(seconds @ num_expected),
    )


def _active(timeline: Timeline, times: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether each speaker talks between each time and the next, ``[S, N]``."""
    row = {speaker: number for number, speaker in enumerate(list_speakers(timeline))}
    active = np.zeros((len(row), max(0, len(times) - 1)), np.bool_)
    for turn in timeline:
        active[row[turn.speaker], _span(times, turn.start, turn.end)] = True
    return active


def _span(times: NDArray[np.float64], start: float, end: float) -> slice:
    """The spans between two of the times."""
    return slice(int(np.searchsorted(times, start)), int(np.searchsorted(times, end)))
