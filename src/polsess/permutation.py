"""Assignment of estimates to references: the one with the best mean score.

Kolbaek et al. (2017), utterance-level permutation-invariant training. All orders are compared up to three
sources; scipy solves the linear assignment beyond.

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

    Raises:
        ValueError: If there are more or fewer estimates than references.
    """
    if scores.ndim != 3 or scores.shape[1] != scores.shape[2]:
        raise ValueError(f"best_permutation: expected scores [B, C, C], got {list(scores.shape)}.")
    num_sources = scores.shape[-1]
    if num_sources > _MAX_ENUMERATED:
        return _assign(scores.detach())
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
    return signals[torch.arange(signals.shape[0], device=signals.device).unsqueeze(1), order]


def _assign(scores: Tensor) -> Tensor:
    """The best assignments by scipy's Jonker-Volgenant algorithm, ``[B, C, C]`` -> ``[B, C]``."""
    from scipy.optimize import linear_sum_assignment  # a third of a second to import

    tables = scores.nan_to_num().double().cpu().numpy()  # a lost step is the trainer's to report
    orders = np.stack([linear_sum_assignment(table, maximize=True)[1] for table in tables])
    return torch.from_numpy(orders).to(scores.device)
