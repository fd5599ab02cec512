"""Which output is which speaker, decided over a whole recording at once."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence

from torch import Tensor

from polsess.inference.speaker_profile import SpeakerProfile, likelihoods

_MAX_ROUNDS = 10

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
    by_content = sorted(range(len(stretches)), key=lambda index: _content(stretches[index]), reverse=True)
    placed: list[int] = []
    for index in by_content:
        if placed:
            orders[index] = _best_order(stretches, orders, placed, index)
        placed.append(index)
    for _ in range(_MAX_ROUNDS):
        before = list(orders)
        for index in by_content:
            others = [other for other in placed if other != index]
            if others:
                orders[index] = _best_order(stretches, orders, others, index)
        if orders == before:
            break
    return orders


def _content(voices: Voices) -> tuple[int, int]:
    frames = sorted(voice.num_frames for voice in voices)
    return (frames[0], sum(frames))


def _best_order(stretches: Sequence[Voices], orders: list[Order], others: list[int], index: int) -> Order:
    """The order in which a stretch fits the voices of others best."""
    heard = [[stretches[other][j] for j in orders[other]] for other in others]
    speakers = [functools.reduce(SpeakerProfile.__add__, voices) for voices in zip(*heard, strict=True)]
    table = likelihoods(speakers, stretches[index])
    return orders[index] if table is None else two_best_orders(table)[0][1]
