"""Which estimate belongs to which reference: the assignment with the best mean score.

Kolbaek et al. (2017), utterance-level permutation-invariant training. Enumeration up to three sources, the
Hungarian algorithm beyond.

Shapes: B batch, C sources.
"""

from __future__ import annotations

from itertools import permutations

import numpy as np
import torch
from torch import Tensor

_MAX_ENUMERATED = 3


def best_permutation(scores: Tensor) -> Tensor:
    """The assignment that maximises the mean score.

    Args:
        scores: ``[B, C, C]``, ``scores[b, i, j]`` rates estimate j as reference i; higher is better.

    Returns:
        The index of the estimate for each reference, ``[B, C]``.
    """
    num_sources = scores.shape[-1]
    if num_sources > _MAX_ENUMERATED:
        return torch.stack([_hungarian(item) for item in scores.detach()])
    table = torch.tensor(list(permutations(range(num_sources))), device=scores.device)  # [P, C]
    rows = torch.arange(num_sources, device=scores.device)
    totals = scores[:, rows, table].sum(-1)  # [B, P]
    return table[totals.argmax(-1)]


def apply_permutation(signals: Tensor, order: Tensor) -> Tensor:
    """Reorder the sources of every item.

    Args:
        signals: ``[B, C, ...]``.
        order: ``[B, C]`` as ``best_permutation`` gives it.

    Returns:
        ``[B, C, ...]`` with source i of item b = ``signals[b, order[b, i]]``.
    """
    return signals[torch.arange(len(signals), device=signals.device).unsqueeze(1), order]


def _hungarian(scores: Tensor) -> Tensor:
    """Kuhn-Munkres with potentials, O(C^3), for one ``[C, C]`` table of scores."""
    cost = -scores.double().cpu().numpy()
    size = len(cost)
    row_potential, column_potential = np.zeros(size + 1), np.zeros(size + 1)
    row_of = np.zeros(size + 1, dtype=int)  # the row matched with each column; 0 = none, 1-based
    for row in range(1, size + 1):
        row_of[0], column = row, 0
        best, previous = np.full(size + 1, np.inf), np.zeros(size + 1, dtype=int)
        visited = np.zeros(size + 1, dtype=bool)
        while row_of[column] != 0:
            visited[column] = True
            reduced = cost[row_of[column] - 1] - row_potential[row_of[column]] - column_potential[1:]
            closer = ~visited[1:] & (reduced < best[1:])
            best[1:][closer], previous[1:][closer] = reduced[closer], column
            nearest = 1 + int(np.argmin(np.where(visited[1:], np.inf, best[1:])))
            step = best[nearest]
            row_potential[row_of[visited]] += step
            column_potential[visited] -= step
            best[~visited] -= step
            column = nearest
        while column:
            row_of[column] = row_of[previous[column]]
            column = previous[column]
    order = np.empty(size, dtype=np.int64)
    order[row_of[1:] - 1] = np.arange(size)
    return torch.from_numpy(order).to(scores.device)
