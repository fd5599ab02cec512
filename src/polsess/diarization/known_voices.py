"""Voices that are known beforehand: what was taken for one voice is cut where an enrolment tells two apart.

Shapes: N pieces, V known voices, D dimensions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from polsess.diarization.clustering import Embeddings, Labels, find_centroids, likeness, list_partitions

LEAST_DIFFERENCE = 0.2
"""What resembles a known voice less than its best match does by this much, in cosines, is somebody else's."""
_SAME_VOICE = 0.7
"""Likeness of two halves from which they are one voice, whatever an enrolment says; higher than where nothing
is known, since the difference to the enrolment is evidence, too."""
_FEW_PIECES, _MANY_PIECES, _SIZE_WEIGHT = 4.0, 12.0, 0.12
"""Halves of more than a few pieces, up to many, have to be more alike, by this weight of the logarithm of how
many times more the smaller one holds: among few, one odd piece counts much."""
_LEAST_SECONDS = 1.5
"""Of speech in either half."""


@dataclass(frozen=True)
class KnownVoices:
    """Voices that are looked for."""

    embeddings: Embeddings
    """``[V, D]``, of unit length."""
    threshold: float
    """Cosine from which a voice of a recording is a known one."""


def cut_by_known(
    embeddings: Embeddings,
    seconds: NDArray[np.float64],
    labels: Labels,
    known: KnownVoices,
    *,
    most: int,
    trusted_seconds: float = 1.2,
) -> Labels:
    """Cut voices that a known one resembles in one half only.

    Args:
        embeddings: Of the pieces, unit vectors ``[N, D]``.
        seconds: Length of each piece ``[N]``.
        labels: The voice of each piece ``[N]``.
        known: Voices that are looked for.
        most: There are never more voices than these afterwards.
        trusted_seconds: Shorter pieces follow the longer ones.

    Returns:
        The voice of each piece ``[N]``; new ones have further numbers.
    """
    labels = labels.copy()
    waiting = list(np.unique(labels))
    while waiting and len(np.unique(labels)) < most:
        places = np.flatnonzero(labels == waiting.pop())
        trusted = places[seconds[places] >= trusted_seconds]
        halves = _halves(embeddings[trusted], seconds[trusted], known)
        if halves is None:
            continue
        second = places[(embeddings[places] @ halves.T).argmax(1) == 1]
        new = labels.max() + 1
        waiting += [labels[places[0]], new]
        labels[second] = new
    return labels


def _halves(embeddings: Embeddings, seconds: NDArray[np.float64], known: KnownVoices) -> Embeddings | None:
    """The centroids ``[2, D]`` of two voices that were taken for one, or None."""
    if len(embeddings) < 2:
        return None
    *_, voices = list_partitions(embeddings, seconds, 2)
    labels = (embeddings @ voices.T).argmax(1)
    if len(np.unique(labels)) < 2 or np.bincount(labels, weights=seconds).min() < _LEAST_SECONDS:
        return None
    halves = find_centroids(embeddings, seconds, labels)
    cosines = known.embeddings @ halves.T  # [V, 2]
    tells = (cosines.max(1) >= known.threshold) & (np.ptp(cosines, axis=1) >= LEAST_DIFFERENCE)
    alike = likeness(embeddings, seconds, labels)[0, 1]
    pieces = min(
        seconds[labels == half].sum() ** 2 / np.square(seconds[labels == half]).sum() for half in (0, 1)
    )
    enough = _SAME_VOICE + _SIZE_WEIGHT * math.log(min(max(pieces, _FEW_PIECES), _MANY_PIECES) / _FEW_PIECES)
    return halves if tells.any() and alike <= enough else None
