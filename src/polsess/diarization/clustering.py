"""Which pieces of speech are of one voice: agglomerative clustering of embeddings, then centroids.

Average linkage on the cosine (Day, Edelsbrunner: "Efficient algorithms for agglomerative hierarchical
clustering methods", Journal of Classification 1, 1984, as scipy has it), pieces that are long enough first;
short ones join the nearest voice.

Shapes: N pieces, D dimensions, S speakers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Embeddings = NDArray[np.float32]
Labels = NDArray[np.int64]

_ROUNDS = 10
_MOST_PIECES = 3000
_SMALLEST_SHARE = 0.04
"""A voice that was heard for less of the clustered time than this is no voice of its own."""


def cluster(
    embeddings: Embeddings,
    seconds: NDArray[np.float64],
    *,
    num_speakers: tuple[int, int] = (1, 8),
    threshold: float,
    eager_threshold: float | None = None,
    trusted_seconds: float = 1.2,
) -> tuple[Labels, Embeddings]:
    """Find voices.

    Args:
        embeddings: Unit vectors ``[N, D]``.
        seconds: Length of each piece ``[N]``.
        num_speakers: The fewest and the most voices.
        threshold: Mean cosine of two clusters from which they are one voice.
        eager_threshold: The same while there are fewer voices than ``num_speakers`` asks for; one voice is
            not cut in two to reach that number. None for ``threshold``.
        trusted_seconds: Shorter pieces do not decide what voices there are, if enough longer ones do.

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
    )
    centroids = _centroids(embeddings[trusted], seconds[trusted], labels)
    for _ in range(_ROUNDS):
        labels = (embeddings[trusted] @ centroids.T).argmax(1)
        updated = _centroids(embeddings[trusted], seconds[trusted], labels)
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
) -> Labels:
    fewest, most = num_speakers
    if len(embeddings) == 1 or most == 1:
        return np.zeros(len(embeddings), np.int64)
    from scipy.cluster.hierarchy import fcluster, linkage

    tree = linkage(embeddings.astype(np.float64), "average", metric="cosine")
    labels: Labels = fcluster(tree, 1 - threshold, "distance").astype(np.int64) - 1
    found = _large(labels, seconds)
    if len(found) < fewest:
        labels = fcluster(tree, 1 - eager_threshold, "distance").astype(np.int64) - 1
        eager = _large(labels, seconds)
        fewest = min(fewest, max(len(found), len(eager)))
        found = eager
    wanted = min(max(len(found), fewest), most)
    if wanted != len(found):  # cut where as many large clusters stand apart
        found, labels = _cut(tree, seconds, wanted)
    if len(found) == 0:
        return np.zeros(len(embeddings), np.int64)
    centroids = np.stack(
        [_unit((embeddings[labels == one] * seconds[labels == one, None]).sum(0)) for one in found]
    )
    nearest: Labels = (embeddings @ centroids.T).argmax(1)
    return nearest


def _large(labels: Labels, seconds: NDArray[np.float64]) -> list[int]:
    """Clusters that hold enough of the time, the longest first."""
    heard = np.bincount(labels, weights=seconds)
    enough = [int(one) for one in np.argsort(-heard) if heard[one] >= _SMALLEST_SHARE * seconds.sum()]
    return enough


def _cut(tree: NDArray[np.float64], seconds: NDArray[np.float64], wanted: int) -> tuple[list[int], Labels]:
    """The highest cut of the tree that leaves ``wanted`` large clusters, or the nearest to it."""
    from scipy.cluster.hierarchy import fcluster

    best: tuple[int, list[int], Labels] | None = None
    for count in range(wanted, len(tree) + 2):
        labels = fcluster(tree, count, "maxclust").astype(np.int64) - 1
        found = _large(labels, seconds)
        if best is None or abs(len(found) - wanted) < best[0]:
            best = abs(len(found) - wanted), found[:wanted], labels
        if best[0] == 0:
            break
    assert best is not None
    return best[1], best[2]


def _centroids(embeddings: Embeddings, seconds: NDArray[np.float64], labels: Labels) -> Embeddings:
    present = np.unique(labels)
    return np.stack(
        [_unit((embeddings[labels == one] * seconds[labels == one, None]).sum(0)) for one in present]
    )


def _unit(vector: NDArray[np.floating]) -> Embeddings:
    return (vector / max(float(np.linalg.norm(vector)), 1e-9)).astype(np.float32)
