"""Which pieces of speech are of one voice: agglomerative clustering of embeddings, then centroids.

Average linkage on the cosine up to pure groups (Day, Edelsbrunner: "Efficient algorithms for agglomerative
hierarchical clustering methods", Journal of Classification 1, 1984), then these are joined by their mean
cosines relative to those within them. Pieces that are long enough come first; short ones join the nearest
voice.

Shapes: N pieces, D dimensions, S speakers, G groups.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Embeddings = NDArray[np.float32]
Labels = NDArray[np.int64]

_PURE_COSINE = 0.5
"""Mean cosine of two groups of pieces from which they are surely of one voice."""
_USUAL_COSINE, _USUAL_PAIRS = 0.45, 6.0
"""Mean cosine of two pieces of one voice, and for how many pairs it counts where a group holds few."""
_ROUNDS = 10
_MOST_PIECES = 3000
_SMALLEST_SECONDS, _SMALLEST_SHARE, _SHARE_OF_SHORT = 3.0, 0.015, 0.1
"""A voice that was heard for less is no voice of its own: neither for so long nor for this share of the
time; in short recordings for this greater share."""


def cluster(
    embeddings: Embeddings,
    seconds: NDArray[np.float64],
    *,
    num_speakers: tuple[int, int] = (1, 8),
    threshold: float,
    eager_threshold: float | None = None,
    trusted_seconds: float = 1.2,
    pure_cosine: float = _PURE_COSINE,
) -> tuple[Labels, Embeddings]:
    """Find voices.

    Args:
        embeddings: Unit vectors ``[N, D]``.
        seconds: Length of each piece ``[N]``.
        num_speakers: The fewest and the most voices.
        threshold: Likeness of two groups from which they are one voice: 1 where pieces of both are as alike
            as pieces of each.
        eager_threshold: The same while there are fewer voices than ``num_speakers`` asks for; one voice is
            not cut in two to reach that number. None for ``threshold``.
        trusted_seconds: Shorter pieces do not decide what voices there are, if enough longer ones do.
        pure_cosine: Mean cosine of two groups of pieces from which they are one voice, however many are asked
            for.

    Returns:
        The voice of each piece ``[N]``, and unit centroids ``[S, D]``.
    """
    fewest, most = num_speakers
    trusted = seconds >= trusted_seconds
    if trusted.sum() < max(2, fewest):
        trusted = np.ones(len(seconds), bool)
    trusted = _thinned(trusted)
    labels = _agglomerate(
        embeddings[trusted],
        seconds[trusted],
        (fewest, most),
        threshold,
        threshold if eager_threshold is None else eager_threshold,
        pure_cosine,
    )
    centroids = find_centroids(embeddings[trusted], seconds[trusted], labels)
    for _ in range(_ROUNDS):
        labels = (embeddings[trusted] @ centroids.T).argmax(1)
        updated = find_centroids(embeddings[trusted], seconds[trusted], labels)
        if len(updated) != len(centroids) or np.allclose(updated, centroids):
            break
        centroids = updated
    return (embeddings @ centroids.T).argmax(1), centroids


def _thinned(trusted: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """As many pieces as clustering can hold in memory, evenly over the recording."""
    places = np.flatnonzero(trusted)
    if len(places) <= _MOST_PIECES:
        return trusted
    kept = np.zeros_like(trusted)
    kept[places[np.linspace(0, len(places) - 1, _MOST_PIECES).round().astype(int)]] = True
    return kept


def _agglomerate(
    embeddings: Embeddings,
    seconds: NDArray[np.float64],
    num_speakers: tuple[int, int],
    threshold: float,
    eager_threshold: float,
    pure_cosine: float,
) -> Labels:
    """Pure groups by average linkage, then these by their likeness, less noisy than that of pieces."""
    fewest, most = num_speakers
    if len(embeddings) == 1 or most == 1:
        return np.zeros(len(embeddings), np.int64)
    groups = join_by_average(embeddings, pure_cosine)
    while (
        pair := _pair_to_join(embeddings, seconds, groups, fewest, most, threshold, eager_threshold)
    ) is not None:
        groups[groups == pair[1]] = pair[0]
    found = _large(groups, seconds)
    if len(found) == 0:
        return np.zeros(len(embeddings), np.int64)
    centroids = np.stack(
        [_unit((embeddings[groups == one] * seconds[groups == one, None]).sum(0)) for one in found]
    )
    nearest: Labels = (embeddings @ centroids.T).argmax(1)
    return nearest


def join_by_average(embeddings: Embeddings, threshold: float) -> Labels:
    """Groups of pieces, the two that are most alike joined until no two have a mean cosine above a threshold.

    Args:
        embeddings: ``[N, D]``.
        threshold: Mean cosine of the pieces of two groups.

    Returns:
        The group of each piece ``[N]``, numbered from 0.
    """
    exact = embeddings.astype(np.float64)
    exact /= np.maximum(np.linalg.norm(exact, axis=1, keepdims=True), 1e-12)
    alike = exact @ exact.T
    np.fill_diagonal(alike, -np.inf)
    groups, sizes = np.arange(len(exact)), np.ones(len(exact))
    nearest, likeness = alike.argmax(1), alike.max(1)
    while len(exact) > 1:
        first = int(likeness.argmax())
        if likeness[first] < threshold:
            break
        second = int(nearest[first])
        joined = (sizes[first] * alike[first] + sizes[second] * alike[second]) / (
            sizes[first] + sizes[second]
        )
        joined[[first, second]] = -np.inf
        alike[first], alike[:, first] = joined, joined
        alike[second], alike[:, second] = -np.inf, -np.inf
        sizes[first] += sizes[second]
        groups[groups == second] = first
        stale = np.flatnonzero((nearest == first) | (nearest == second) | (joined > likeness))
        for row in {first, second, *stale.tolist()}:
            nearest[row], likeness[row] = alike[row].argmax(), alike[row].max()
    labels: Labels = np.unique(groups, return_inverse=True)[1].astype(np.int64)
    return labels


def _pair_to_join(
    embeddings: Embeddings,
    seconds: NDArray[np.float64],
    groups: Labels,
    fewest: int,
    most: int,
    threshold: float,
    eager_threshold: float,
) -> tuple[int, int] | None:
    """The two groups that are most alike and one voice, or None."""
    present = np.unique(groups)
    alike = likeness(embeddings, seconds, groups)
    alike[np.tril_indices(len(present))] = -2.0
    large = np.isin(present, _large(groups, seconds))
    if large.sum() > most:
        alike[~np.outer(large, large)] = -2.0
        threshold = -1.0
    elif large.sum() <= fewest:
        alike[np.outer(large, large) & (alike <= eager_threshold)] = -2.0
    first, second = np.unravel_index(int(alike.argmax()), alike.shape)
    if len(present) < 2 or alike[first, second] <= threshold:
        return None
    return int(present[first]), int(present[second])


def likeness(embeddings: Embeddings, seconds: NDArray[np.float64], groups: Labels) -> NDArray[np.float64]:
    """How alike pieces of two groups are, relative to pieces of one: ``[G, G]``.

    Mean cosines, corrected for attenuation (Spearman 1904, "The proof and measurement of association between
    two things"): two like voices that each sound the same throughout are told apart, and one voice whose
    pieces differ, for noise or for their shortness, is held together.

    Args:
        embeddings: Unit vectors ``[N, D]``.
        seconds: Length of each piece ``[N]``.
        groups: The group of each piece ``[N]``.
    """
    weights = (groups[:, None] == np.unique(groups)) * seconds[:, None]  # [N, G]
    totals, squares = weights.sum(0), np.square(weights).sum(0)
    sums = weights.T @ embeddings
    products = sums @ sums.T
    pairs = totals**2 - squares
    count = pairs / squares  # as many as there are pieces beside one, if all are equally long
    within = (np.diag(products) - squares) / np.maximum(pairs, 1e-9)
    steadiness = (within * count + _USUAL_COSINE * _USUAL_PAIRS) / (count + _USUAL_PAIRS)
    steadiness = steadiness.clip(0.1, 1.0)
    cosines: NDArray[np.float64] = products / np.outer(totals, totals)
    return cosines / np.sqrt(np.outer(steadiness, steadiness))


def _large(labels: Labels, seconds: NDArray[np.float64]) -> list[int]:
    """Clusters that hold enough of the time, the longest first."""
    heard = np.bincount(labels, weights=seconds)
    total = float(seconds.sum())
    least = min(max(_SMALLEST_SECONDS, _SMALLEST_SHARE * total), _SHARE_OF_SHORT * total)
    return [int(one) for one in np.argsort(-heard) if heard[one] >= max(least, 1e-9)]


def find_centroids(embeddings: Embeddings, seconds: NDArray[np.float64], labels: Labels) -> Embeddings:
    """Unit vectors ``[S, D]`` of the voices that occur in ``labels``, in ascending order."""
    present = np.unique(labels)
    return np.stack(
        [_unit((embeddings[labels == one] * seconds[labels == one, None]).sum(0)) for one in present]
    )


def _unit(vector: NDArray[np.floating]) -> Embeddings:
    return (vector / max(float(np.linalg.norm(vector)), 1e-9)).astype(np.float32)
