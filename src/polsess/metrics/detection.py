"""Scores of detectors: precision and recall of frames, and the equal error rate of trials.

Shapes: L frames, N trials.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Detection:
    """Frames of one class that were found, invented and missed; sums of these are those of all frames."""

    found: int = 0
    invented: int = 0
    missed: int = 0

    def __add__(self, other: Detection) -> Detection:
        return Detection(self.found + other.found, self.invented + other.invented, self.missed + other.missed)

    @property
    def precision(self) -> float:
        """Share of the detected frames that are right; 1 where none was detected."""
        return _share(self.found, self.invented)

    @property
    def recall(self) -> float:
        """Share of the true frames that were detected; 1 where there are none."""
        return _share(self.found, self.missed)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 1 where there was nothing to find and nothing was found."""
        return _share(2 * self.found, self.invented + self.missed)


def count_frames(detected: ArrayLike, true: ArrayLike) -> Detection:
    """Compare frames.

    Args:
        detected: Booleans, ``[L]``.
        true: Booleans, ``[L]``.
    """
    detected, true = np.asarray(detected, bool), np.asarray(true, bool)
    return Detection(
        int((detected & true).sum()), int((detected & ~true).sum()), int((~detected & true).sum())
    )


class EqualErrors(NamedTuple):
    """Where as many targets are refused as impostors accepted."""

    rate: float
    """A share from 0 to 1: the mean of both rates where they are nearest."""
    threshold: float
    """The lowest score that is accepted there."""


def find_equal_errors(scores: ArrayLike, same: ArrayLike, weights: ArrayLike | None = None) -> EqualErrors:
    """The threshold at which as many targets are refused as impostors accepted, and the error rate there.

    Args:
        scores: One per trial, higher for the same speaker, ``[N]``.
        same: Whether the trial is of one speaker, ``[N]``.
        weights: How often each trial counts, ``[N]``; None for once.

    Returns:
        Both; NaN unless there are trials of both kinds.
    """
    scores, same = np.asarray(scores, np.float64), np.asarray(same, bool)
    if same.all() or not same.any():
        return EqualErrors(math.nan, math.nan)
    weights = np.ones(len(scores)) if weights is None else np.asarray(weights, np.float64)
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.diff(scores[order]) != 0, True)  # equal scores are accepted together
    targets, impostors = ((weights * kind)[order].cumsum()[last] for kind in (same, ~same))
    refused = 1 - np.concatenate([[0.0], targets / targets[-1]])
    accepted = np.concatenate([[0.0], impostors / impostors[-1]])
    nearest = int(np.abs(accepted - refused).argmin())
    thresholds = np.concatenate([[np.inf], scores[order][last]])
    return EqualErrors(float((accepted[nearest] + refused[nearest]) / 2), float(thresholds[nearest]))


def _share(part: int, rest: int) -> float:
    return part / (part + rest) if part + rest else 1.0
