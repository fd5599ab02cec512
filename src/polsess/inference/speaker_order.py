"""Which output is which speaker, decided over a whole recording at once.

Pieces of sound belong to one voice if a single Gaussian describes them about as well as one each: the
generalised likelihood ratio with the penalty of the Bayesian information criterion (Chen, Gopalakrishnan:
"Speaker, environment and channel change detection and clustering via the Bayesian information criterion",
DARPA Broadcast News Workshop 1998).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from torch import Tensor

from polsess.inference.speaker_profile import NUM_CEPSTRA, SpeakerProfile

_MAX_ROUNDS = 10
_NUM_PARAMETERS = NUM_CEPSTRA * (NUM_CEPSTRA + 3) / 2  # mean and covariance
_PENALTY = 0.5
_TOGETHER_FRAMES = 10
"""Voices that begin within a fifth of a second begin together."""

Voices = Sequence[SpeakerProfile]
Order = tuple[int, ...]


def two_best_orders(scores: Tensor) -> list[tuple[float, Order]]:
    """The two orders with the largest sums of ``scores[i, order[i]]``, the best first."""
    rows = scores.tolist()
    totals = [
        (sum(row[j] for row, j in zip(rows, order, strict=True)), order)
        for order in itertools.permutations(range(len(rows)))
    ]
    return sorted(totals, key=lambda total: -total[0])[:2]


def order_stretches(stretches: Sequence[Voices]) -> list[Order]:
    """Put the outputs of every stretch in the order that keeps each speaker on one of them.

    The stretch in which most is heard of every speaker comes first; the others join it in turn, and are then
    compared again with all others until nothing changes.

    Args:
        stretches: What was heard on each of C outputs in each stretch of a recording.

    Returns:
        For each stretch, which of its outputs belongs to each speaker.
    """
    orders: list[Order] = [tuple(range(len(voices))) for voices in stretches]
    heard = [index for index, voices in enumerate(stretches) if any(voice.num_frames for voice in voices)]
    if not heard:
        return orders
    heard.sort(key=lambda index: _content(stretches[index]), reverse=True)
    speakers = list(stretches[heard[0]])
    for index in heard[1:]:
        orders[index] = _best_order(speakers, stretches[index])
        speakers = _joined(speakers, stretches[index], orders[index])
    for _ in range(_MAX_ROUNDS):
        before = list(orders)
        for index in heard:
            voices = stretches[index]
            own = zip(speakers, orders[index], strict=True)
            others = [speaker - voices[j] for speaker, j in own]
            orders[index] = _best_order(others, voices)
            speakers = _joined(others, voices, orders[index])
        if orders == before:
            break
    return orders


def in_order_of_onset(onsets: Sequence[int], places: Sequence[int]) -> Order:
    """The speakers in the order in which they are first heard.

    Of voices that begin together the model's order decides: which of them comes first then depends neither on
    a frame more or less nor on the rounding of anything.

    Args:
        onsets: The frame in which each speaker begins.
        places: The output of the model that each speaker was when the first of them began.
    """
    waiting = sorted(range(len(onsets)), key=lambda speaker: places[speaker])
    order = []
    while waiting:
        begin = min(onsets[speaker] for speaker in waiting)
        order.append(next(each for each in waiting if onsets[each] <= begin + _TOGETHER_FRAMES))
        waiting.remove(order[-1])
    return tuple(order)


def _content(voices: Voices) -> tuple[int, int]:
    frames = [voice.num_frames for voice in voices]
    return min(frames), sum(frames)


def _joined(speakers: Voices, voices: Voices, order: Order) -> list[SpeakerProfile]:
    return [speaker + voices[j] for speaker, j in zip(speakers, order, strict=True)]


def _best_order(speakers: Voices, voices: Voices) -> Order:
    orders = itertools.permutations(range(len(voices)))
    return min(orders, key=lambda order: _cost(_joined(speakers, voices, order)))


def _cost(speakers: Voices) -> float:
    """How badly one Gaussian per speaker describes everything that was heard."""
    total = sum(speaker.num_frames for speaker in speakers)
    penalty = _PENALTY * _NUM_PARAMETERS * math.log(max(total, 2))
    return sum(speaker.spread() + penalty for speaker in speakers if speaker.num_frames)
