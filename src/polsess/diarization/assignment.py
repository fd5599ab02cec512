"""Who says which piece, and which output of a network holds whose voice.

Shapes: N pieces, S voices, C outputs, L frames.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from polsess.diarization.clustering import Labels
from polsess.diarization.regions import Frames

Scores = NDArray[np.float64]

_SURE_SECONDS = 1.2
"""A piece of this length weighs fully; shorter ones weigh less."""
_STAY_BONUS = 0.07
"""Added where a voice goes on, in cosines, if there is no pause between two pieces."""
_STAY_SECONDS = 0.5
"""Pause after which the bonus has fallen to a third."""
_LONGEST_SPAN = 4
"""Steps from one that is heard to the next, at most."""
_SURE_MARGIN = 0.3
"""Difference of cosines from which a step is surely of the voice that is nearest."""
_VOICE_WEIGHT = 2.0
"""Of the cosine of embeddings against the correlation with neighbours."""
_FULL_NEIGHBOUR_SECONDS = 0.3
_MOST_SETS_OF = 8
"""Outputs whose sets are all tried; of more, scipy finds the best pairs."""


def decode_voices(similarities: Scores, pieces: Sequence[Frames], hop_seconds: float) -> Labels:
    """The most plausible sequence of voices, by the algorithm of Viterbi.

    Args:
        similarities: Cosines of the pieces with the voices ``[N, S]``.
        pieces: N stretches in order.
        hop_seconds: From one frame to the next.

    Returns:
        The voice of each piece ``[N]``.
    """
    count, num_voices = similarities.shape
    if count == 0:
        return np.zeros(0, np.int64)
    seconds = np.array([last - first for first, last in pieces]) * hop_seconds
    scores = similarities * np.clip(seconds / _SURE_SECONDS, 0.1, 1.0)[:, None]
    best, back = scores[0], np.zeros((count, num_voices), np.int64)
    for i in range(1, count):
        pause = (pieces[i][0] - pieces[i - 1][1]) * hop_seconds
        moves = best[:, None] + _STAY_BONUS * np.exp(-pause / _STAY_SECONDS) * np.eye(num_voices)
        back[i] = moves.argmax(0)
        best = moves.max(0) + scores[i]
    labels = np.zeros(count, np.int64)
    labels[-1] = best.argmax()
    for i in range(count - 1, 0, -1):
        labels[i - 1] = back[i, labels[i]]
    return labels


def compare_steps(steps: Sequence[Frames], num_voices: int, compare: Callable[[list[int]], Scores]) -> Scores:
    """How like the voices steps are, of which no more are heard than are needed.

    What lies between two steps that are surely of one voice is of it as well; where they are not, the one in
    their middle is heard, too. The first and last of a run of steps are, and of those between every fourth.

    Args:
        steps: Stretches in order, N of them, one or more.
        num_voices: S; one needs no hearing.
        compare: Hears steps, given by their places, and gives their cosines with the voices ``[n, S]``.

    Returns:
        Cosines ``[N, S]``; between steps that are heard they change evenly.
    """
    similarities = np.ones((len(steps), num_voices))
    breaks = [place for place in range(1, len(steps)) if steps[place - 1][1] != steps[place][0]]
    spans = [
        (first, min(first + _LONGEST_SPAN, last - 1))
        for begin, last in itertools.pairwise([0, *breaks, len(steps)])
        for first in range(begin, max(begin + 1, last - 1), _LONGEST_SPAN)
    ]
    heard = sorted({place for span in spans for place in span}) if num_voices > 1 else []
    while heard:
        similarities[heard] = compare(heard)
        second, best = np.sort(similarities, axis=1)[:, -2:].T
        sure = np.where(best - second >= _SURE_MARGIN, similarities.argmax(1), -1)
        wide, spans, heard = spans, [], []
        for first, last in wide:
            if sure[first] == sure[last] >= 0:
                ends = similarities[[first, last]]
                weights = np.linspace(0, 1, last - first + 1)[1:-1, None]
                similarities[first + 1 : last] = (1 - weights) * ends[0] + weights * ends[1]
            elif last - first > 1:
                heard.append((first + last) // 2)
                spans += [(first, heard[-1]), (heard[-1], last)]
    return similarities


def assign_outputs(correlations: Scores, solo_seconds: NDArray[np.float64], similarities: Scores) -> Labels:
    """The voice on each output of a network; two outputs are two people as long as there are enough voices.

    Args:
        correlations: How much of the mixture each output holds where each voice talks alone beside the
            overlap, about 0 to 1, ``[C, S]``.
        solo_seconds: How long each voice talks alone there ``[S]``; its correlations count accordingly.
        similarities: Cosines of the outputs with the voices where several talk ``[C, S]``.

    Returns:
        The voice of each output ``[C]``.
    """
    known = np.minimum(solo_seconds / _FULL_NEIGHBOUR_SECONDS, 1.0)
    scores = correlations * known + _VOICE_WEIGHT * similarities
    labels: Labels = scores.argmax(1).astype(np.int64)
    for output, voice in enumerate(_best_pairs(scores)):
        if voice >= 0:
            labels[output] = voice
    return labels


def _best_pairs(scores: Scores) -> list[int]:
    """Pairs of rows and columns, each once, with the greatest sum; as many as there can be.

    Columns are met one by one, with the best sum for every set of rows that have theirs: outputs are few.

    Args:
        scores: ``[rows, columns]``.

    Returns:
        The column of each row, -1 for a row without one.
    """
    num_rows, num_columns = scores.shape
    if num_rows > _MOST_SETS_OF:
        from scipy.optimize import linear_sum_assignment

        pairs_found = dict(zip(*linear_sum_assignment(scores, maximize=True), strict=True))
        return [int(pairs_found.get(row, -1)) for row in range(num_rows)]
    best: dict[int, tuple[float, tuple[tuple[int, int], ...]]] = {0: (0.0, ())}
    for column in range(num_columns):
        longer = dict(best)
        for taken, (total, pairs) in best.items():
            for row in range(num_rows):
                if taken >> row & 1:
                    continue
                both, value = taken | 1 << row, total + float(scores[row, column])
                if both not in longer or value > longer[both][0]:
                    longer[both] = value, (*pairs, (row, column))
        best = longer
    most = max(taken.bit_count() for taken in best)
    _, chosen = max((found for taken, found in best.items() if taken.bit_count() == most), key=lambda x: x[0])
    found = dict(chosen)
    return [found.get(row, -1) for row in range(num_rows)]
