"""Unsupervised training on mixtures of mixtures (MixIT).

Wisdom, Tzinis, Erdogan, Weiss, Wilson, Hershey (2020), https://arxiv.org/abs/2006.12701. The network
separates the sum of N mixtures into M estimates, which are assigned to the mixtures so that their sums fit.

Shapes: B batch, M estimates, N mixtures, T samples.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from polsess.schema import Schema

_FLOOR = 1e-8
_MAX_ASSIGNMENTS = 4096


class MixtureInvariantLossConfig(Schema):
    """Number of mixtures in the sum, and the bound of the ratio."""

    num_mixtures: int = Field(default=2, ge=2, le=4)
    """N, mixtures of the corpus that make one training example."""
    max_snr_db: float = Field(default=30.0, gt=0)
    """The soft threshold of the negative SNR: tau is ``10^(-max_snr_db / 10)`` (paper, equation 3)."""


def mixture_invariant(
    score: Callable[[Tensor, Tensor], Tensor], estimates: Tensor, mixtures: Tensor
) -> tuple[Tensor, Tensor]:
    """The mean score of the mixtures under the best assignment of estimates.

    Args:
        score: From (estimate, mixture), ``[..., T]`` each, to ``[...]``; the higher the better.
        estimates: ``[B, M, T]``.
        mixtures: ``[B, N, T]``.

    Returns:
        The mean over the mixtures, ``[B]``, and the mixture that each estimate went to, ``[B, M]``. Only the
        chosen sums carry gradients.

    Raises:
        ValueError: If there are more than 4096 ways, ``N^M``.
    """
    num_mixtures, num_estimates = mixtures.shape[1], estimates.shape[1]
    if num_mixtures**num_estimates > _MAX_ASSIGNMENTS:
        raise ValueError(
            f"MixIT: {num_estimates} estimates can be dealt out to {num_mixtures} mixtures in "
            f"{num_mixtures**num_estimates} ways, expected at most {_MAX_ASSIGNMENTS}; use fewer sources."
        )
    ways = torch.tensor(list(product(range(num_mixtures), repeat=num_estimates)), device=estimates.device)
    with torch.no_grad():  # one way at a time: the memory of one
        scores = [score(_sums(estimates, way, num_mixtures), mixtures).mean(-1) for way in ways]
        chosen = ways[torch.stack(scores).argmax(0)]  # [B, M]
    return score(_sums(estimates, chosen, num_mixtures), mixtures).mean(-1), chosen


def _sums(estimates: Tensor, way: Tensor, num_mixtures: int) -> Tensor:
    """The estimates of each mixture added up, ``[B, N, T]``; ``way`` is ``[M]`` or ``[B, M]``."""
    mixing = F.one_hot(way, num_mixtures).to(estimates.dtype).mT  # [N, M] or [B, N, M]
    return mixing @ estimates


class MixtureInvariantLoss:
    """The negative, softly bounded SNR of MixIT.

    Args:
        config: The bound.
    """

    def __init__(self, config: MixtureInvariantLossConfig) -> None:
        self.tau = 10 ** (-config.max_snr_db / 10)

    def __call__(self, estimates: Tensor, mixtures: Tensor) -> Tensor:
        """The loss of a batch.

        Args:
            estimates: Of the sum of the mixtures, ``[B, M, T]``.
            mixtures: ``[B, N, T]``.

        Returns:
            A scalar in dB, at least ``-max_snr_db``; finite, with finite gradients, for silence.
        """
        with torch.autocast(estimates.device.type, enabled=False):
            values, _ = mixture_invariant(self._bounded_snr, estimates.float(), mixtures.float())
            return -values.mean()

    def _bounded_snr(self, estimate: Tensor, mixture: Tensor) -> Tensor:
        energy = mixture.square().sum(-1)
        error = (mixture - estimate).square().sum(-1) + self.tau * energy
        return 10 * torch.log10((energy + _FLOOR) / (error + _FLOOR))
