"""Which pieces of speech are of one voice, and how many voices there are.

The pieces are parted into one voice, two, three and so on by k-means on the sphere, each time from the voices
before and from one that they explain badly (Likas, Vlassis, Verbeek: "The global k-means clustering
algorithm", Pattern Recognition 36, 2003); such candidates are groups of pieces, by average linkage on
the cosine (Day, Edelsbrunner: "Efficient algorithms for agglomerative hierarchical clustering methods",
Journal of Classification 1, 1984). K-means would rather cut in two who talks much than tell two apart who
talk little, so of the partitions that it finds those are the best whose voices differ and seldom take over
from each other without a pause. There are as many voices as can all be told apart: by the mean cosines of
their pieces, and by what else speaks for two voices or for one.

Shapes: N pieces, D dimensions, S speakers, G groups.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Embeddings = NDArray[np.float32]
Labels = NDArray[np.int64]
Weights = NDArray[np.float64]

_ALIKE = (0.8, 0.6, 0.4)
"""Mean cosines of two groups of pieces from which they are one group; groups of each are candidates."""
_MOST_CANDIDATES, _CANDIDATES = 500, 12
"""Groups that may be the next voice, those that hold the most time, and how many of them are tried."""
_FIRST_ROUNDS, _ROUNDS, _FINALISTS, _KEPT = 3, 30, 6, 3
"""Of k-means for all that are tried, then for the best of them, how many these are, and how many of them one
more voice is looked for in."""
_ALIKE_PENALTY, _TAKEOVER_PENALTY = 0.1, 0.1
"""Weights of the likeness of the two most alike voices, and of the share of pieces without a pause before
them in which another voice takes over, against the mean cosine of the pieces with their voices."""
_SAME_WORTH = 1e-8
"""Partitions whose worth is this near are one, found by two ways; the first one counts."""
_USUAL_COSINE, _USUAL_PAIRS = 0.45, 6.0
"""Mean cosine of two pieces of one voice, and for how many pairs it counts where a group holds few."""
_MOST_PIECES = 2000
"""Of which the partitions are found; time and memory grow with their square."""
_SMALLEST_SECONDS, _SMALLEST_SHARE, _SHARE_OF_SHORT = 3.0, 0.015, 0.1
"""A voice that was heard for less is no voice of its own: neither for so long nor for this share of the
time; in short recordings for this greater share."""
WEIGHTS: Weights = np.array([1.0, -0.27, 2.5, 1.0, -0.1])
"""Of what ``list_evidence`` gives, in likeness: the best of a grid around the logistic regression that
``benchmarks/voice_count.py`` does, on its recordings, 300 more of one to four voices and three of half an
hour with seven to nine (docs/conversations.md)."""
_FEW_VOICES = 3
"""So many are expected to talk for unlike times."""
_NO_PAUSE_SECONDS = 0.1
"""Who goes on after a shorter pause is likely to be the same."""
_FEW_OVERLAPS, _USUAL_OVERLAP = 0.001, 0.004
"""Shares of sure overlap: what may be an error, and from what on it speaks for two voices."""


@dataclass(frozen=True)
class Pieces:
    """Pieces of talk, each probably of one voice, in the order in which they are heard."""

    embeddings: Embeddings
    """Unit vectors ``[N, D]``."""
    seconds: NDArray[np.float64]
    """Length of each ``[N]``."""
    pauses: NDArray[np.float64]
    """Seconds between each and the next ``[N - 1]``."""
    several: NDArray[np.float64]
    """Mean probability that several talk, of each ``[N]``."""


def find_voices(
    pieces: Pieces,
    *,
    num_speakers: tuple[int, int] = (1, 8),
    sure_overlap: float,
    same_voice: float,
    same_voice_asked: float,
    weights: Weights = WEIGHTS,
) -> tuple[Labels, Embeddings]:
    """Find out how many voices there are, and whose each piece is.

    Args:
        pieces: N of them.
        num_speakers: The fewest and the most voices.
        sure_overlap: Share of the speech in which several surely talk, evidence of two voices.
        same_voice: Likeness of two groups from which they are one voice, if both hold a third of the time and
            nothing else speaks for one or for two: 1 where pieces of both are as alike as pieces of each.
        same_voice_asked: The same while there are fewer voices than ``num_speakers`` asks for, whatever else
            speaks for one: no voice is cut in two to reach that number.
        weights: Of what speaks for one voice or for two ``[5]``.

    Returns:
        The voice of each piece ``[N]``, and unit centroids ``[S, D]``.
    """
    fewest, most = num_speakers
    found = None
    for centroids in list_partitions(pieces.embeddings, pieces.seconds, most, pieces.pauses):
        labels: Labels = (pieces.embeddings @ centroids.T).argmax(1)
        if len(np.unique(labels)) < len(centroids):
            break
        evidence = list_evidence(pieces, labels, sure_overlap)
        apart = heard_enough(pieces.seconds, labels) and bool((evidence @ weights <= same_voice).all())
        if len(centroids) <= fewest:
            apart = apart or bool((evidence[:, 0] <= same_voice_asked).all())
        if found is None or apart:  # halves of three like voices may be like each other, but not all three
            found = labels, centroids
    assert found is not None  # one voice there is
    return found


def heard_enough(seconds: NDArray[np.float64], labels: Labels) -> bool:
    """Whether each voice was heard for long enough to be one of its own.

    Args:
        seconds: Length of each piece ``[N]``.
        labels: The voice of each ``[N]``, numbered from 0.
    """
    heard = np.bincount(labels, weights=seconds)
    total = float(heard.sum())
    least = min(max(_SMALLEST_SECONDS, _SMALLEST_SHARE * total), _SHARE_OF_SHORT * total)
    return bool(heard.min() >= least)


def list_evidence(pieces: Pieces, labels: Labels, sure_overlap: float) -> NDArray[np.float64]:
    """What speaks for one voice, or against it, for any two of S voices ``[S * (S - 1) / 2, 5]``.

    The likeness of both; the logarithm of the share of the smaller one relative to a third of the time, or of
    more voices to what each would have of it; how probably several talk in its pieces; how often the two take
    over from each other without a pause; and for two voices the logarithm of the sure overlap over a usual
    one, which says nothing of more voices.

    Args:
        pieces: N of them.
        labels: The voice of each ``[N]``, numbered from 0.
        sure_overlap: As in ``find_voices``.
    """
    alike = likeness(pieces.embeddings, pieces.seconds, labels)
    heard = np.bincount(labels, weights=pieces.seconds)
    several = np.bincount(labels, weights=pieces.seconds * pieces.several) / heard
    at_once = np.flatnonzero(pieces.pauses <= _NO_PAUSE_SECONDS)
    before, after = labels[at_once], labels[at_once + 1]
    overlap = math.log((sure_overlap + _FEW_OVERLAPS) / _USUAL_OVERLAP) if len(heard) == 2 else 0.0
    evidence = []
    for pair in itertools.combinations(range(len(heard)), 2):
        smaller = min(pair, key=lambda voice: heard[voice])
        both = np.isin(before, pair) & np.isin(after, pair)
        changes = float((before[both] != after[both]).sum() + 0.5) / (int(both.sum()) + 1)
        share = math.log(heard[smaller] * max(len(heard), _FEW_VOICES) / heard.sum())
        evidence.append([alike[pair], share, several[smaller], changes, overlap])
    return np.array(evidence, np.float64).reshape(-1, 5)


def list_partitions(
    embeddings: Embeddings,
    seconds: NDArray[np.float64],
    most: int,
    pauses: NDArray[np.float64] | None = None,
) -> Iterator[Embeddings]:
    """The centroids ``[S, D]`` of one voice, of two and so on, while there are pieces for further ones.

    Args:
        embeddings: Unit vectors ``[N, D]``.
        seconds: Length of each piece ``[N]``.
        most: S of the last partition.
        pauses: Seconds between each piece and the next ``[N - 1]``; None if these are not known.
    """
    if pauses is None:
        pauses = np.full(len(embeddings) - 1, np.inf)
    at_once = pauses <= _NO_PAUSE_SECONDS
    if len(embeddings) > _MOST_PIECES:  # evenly over the recording
        kept = np.linspace(0, len(embeddings) - 1, _MOST_PIECES).round().astype(int)
        embeddings, seconds = embeddings[kept], seconds[kept]
        at_once = at_once[kept[:-1]] & (np.diff(kept) == 1)
    exact = _normalised(embeddings)

    def settle(centroids: NDArray[np.float64], num_rounds: int) -> _Partition:
        return _settle(exact, seconds, at_once, centroids, num_rounds)

    partitions = [settle(_mean_directions(exact, seconds, np.zeros(len(exact), np.int64)), 1)]
    yield partitions[0].centroids.astype(np.float32)
    if most < 2:
        return
    groups = join_by_average(embeddings, _ALIKE)
    heard = np.concatenate([np.bincount(each, weights=seconds) for each in groups])
    longest = np.argsort(-heard, kind="stable")[:_MOST_CANDIDATES]
    candidates = np.vstack([_mean_directions(exact, seconds, each) for each in groups])[longest]  # [G, D]
    likely = exact @ candidates.T  # [N, G]
    for _ in range(1, min(most, len(candidates))):
        grown = []
        for centroids in (each.centroids for each in partitions):
            explained = (exact @ centroids.T).max(1, keepdims=True)
            gains = (np.maximum(likely - explained, 0) * seconds[:, None]).sum(0)
            tried = np.argsort(-gains, kind="stable")[:_CANDIDATES]
            grown += [settle(np.vstack([centroids, candidates[one]]), _FIRST_ROUNDS) for one in tried]
        settled = [settle(each.centroids, _ROUNDS) for each in _best(grown, _FINALISTS)]
        partitions = _best(settled, _KEPT)
        yield partitions[0].centroids.astype(np.float32)


def _normalised(embeddings: Embeddings) -> NDArray[np.float64]:
    exact = embeddings.astype(np.float64)
    return exact / np.maximum(np.linalg.norm(exact, axis=1, keepdims=True), 1e-12)


class _Partition(NamedTuple):
    """Pieces parted into S voices.

    Attributes:
        worth: How good it is; minus infinity if a voice has no piece.
        centroids: ``[S, D]``.
    """

    worth: float
    centroids: NDArray[np.float64]


def _settle(
    embeddings: NDArray[np.float64],
    seconds: NDArray[np.float64],
    at_once: NDArray[np.bool_],
    centroids: NDArray[np.float64],
    num_rounds: int,
) -> _Partition:
    """K-means from centroids ``[S, D]``.

    Args:
        embeddings: Unit vectors ``[N, D]``.
        seconds: Length of each piece ``[N]``.
        at_once: Whether the next piece follows without a pause ``[N - 1]``.
        centroids: With which it begins.
        num_rounds: At most so many.
    """
    labels = np.full(len(embeddings), -1)
    for _ in range(num_rounds):
        nearest = (embeddings @ centroids.T).argmax(1)
        if (nearest == labels).all() or len(np.unique(nearest)) < len(centroids):
            break
        labels = nearest
        centroids = _mean_directions(embeddings, seconds, labels)
    cosines = embeddings @ centroids.T
    labels = cosines.argmax(1)
    if len(np.unique(labels)) < len(centroids):
        return _Partition(-math.inf, centroids)
    worth = float(cosines.max(1) @ seconds) / float(seconds.sum())
    if len(centroids) > 1:
        alike = likeness(embeddings, seconds, labels)
        taken_over = (labels[1:] != labels[:-1]) & at_once
        worth -= _ALIKE_PENALTY * float(alike[np.triu_indices(len(alike), 1)].max())
        worth -= _TAKEOVER_PENALTY * float(taken_over.sum()) / (int(at_once.sum()) + 1)
    return _Partition(worth, centroids)


def _best(partitions: Sequence[_Partition], most: int) -> list[_Partition]:
    """At most so many, each once, the best first."""
    distinct: dict[float, _Partition] = {}
    for each in partitions:
        distinct.setdefault(float(np.round(each.worth / _SAME_WORTH)), each)
    return [distinct[place] for place in sorted(distinct, reverse=True)[:most]]


def join_by_average(embeddings: Embeddings, thresholds: Sequence[float]) -> list[Labels]:
    """Groups of pieces, the two that are most alike joined until no two have a mean cosine above a threshold.

    Args:
        embeddings: ``[N, D]``.
        thresholds: Mean cosines of the pieces of two groups, falling.

    Returns:
        For each threshold the group of each piece ``[N]``, numbered from 0.
    """
    exact = _normalised(embeddings)
    alike = exact @ exact.T
    np.fill_diagonal(alike, -np.inf)
    groups, sizes = np.arange(len(exact)), np.ones(len(exact))
    nearest, likeness = alike.argmax(1), alike.max(1)
    found: list[Labels] = []
    for threshold in thresholds:
        while likeness.max() >= threshold:
            first = int(likeness.argmax())
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
        found.append(np.unique(groups, return_inverse=True)[1].astype(np.int64))
    return found


def likeness(
    embeddings: NDArray[np.floating], seconds: NDArray[np.float64], groups: Labels
) -> NDArray[np.float64]:
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


def find_centroids(embeddings: Embeddings, seconds: NDArray[np.float64], labels: Labels) -> Embeddings:
    """Unit vectors ``[S, D]`` of the voices that occur in ``labels``, in ascending order."""
    numbers = np.unique(labels, return_inverse=True)[1].astype(np.int64)
    return _mean_directions(embeddings, seconds, numbers).astype(np.float32)


def _mean_directions(
    embeddings: NDArray[np.floating], seconds: NDArray[np.float64], labels: Labels
) -> NDArray[np.float64]:
    """Unit vectors ``[G, D]`` of groups that are numbered from 0."""
    sums = ((labels[:, None] == np.arange(labels.max() + 1)) * seconds[:, None]).T @ embeddings
    directions: NDArray[np.float64] = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-9)
    return directions
