"""Levels true to the mixture: one gain per output over the whole recording, by least squares.

A network trained on a scale-invariant loss returns its estimates at any level, even with the sign turned. The
gains g that make ``sum_i g_i * source_i`` best resemble the mixture undo that; with one source this is the
projection of the mixture on the estimate. They are found once for the whole recording, because gains per
segment would pump. Where least squares has no say (a silent output, or two outputs alike) the gains lean
towards the one gain common to all.

Shapes: C sources, K channels, T samples.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

_RIDGE = 1e-3
_SILENT = 1e-12
_FRAME_SECONDS = 0.02


class LevelStatistics:
    """Sums over a recording that arrives block by block; everything about levels follows from them.

    Args:
        num_sources: C.
        num_channels: K.
        sample_rate: In Hz.
    """

    def __init__(self, num_sources: int, num_channels: int, sample_rate: int) -> None:
        self._frame = max(1, round(_FRAME_SECONDS * sample_rate))
        self._gram = torch.zeros(num_channels, num_sources, num_sources, dtype=torch.float64)
        self._cross = torch.zeros(num_channels, num_sources, dtype=torch.float64)
        self._envelopes = torch.zeros(num_channels, num_sources, num_sources, dtype=torch.float64)

    def add(self, sources: Tensor, mixture: Tensor) -> None:
        """Take a block.

        Args:
            sources: Estimates ``[C, K, n]``.
            mixture: ``[K, n]``.
        """
        rows = sources.transpose(0, 1).double()  # [K, C, n]
        self._gram += rows @ rows.mT
        self._cross += (rows @ mixture.double().unsqueeze(-1)).squeeze(-1)
        length = rows.shape[-1] // self._frame * self._frame
        if length:
            envelopes = rows[..., :length].unflatten(-1, (-1, self._frame)).square().mean(-1).sqrt()
            self._envelopes += envelopes[:1] @ envelopes.mT  # first channel against each

    def __iadd__(self, other: LevelStatistics) -> Self:
        """Take everything that the other took."""
        self._gram += other._gram
        self._cross += other._cross
        self._envelopes += other._envelopes
        return self

    def in_order(self, orders: Sequence[tuple[int, ...]]) -> LevelStatistics:
        """As if the sources of every channel had come in another order.

        Args:
            orders: For each channel, the old place of each source.
        """
        num_channels, num_sources, _ = self._gram.shape
        sorted_ = LevelStatistics(num_sources, num_channels, 1)
        first = list(orders[0])
        for k, order in enumerate(list(each) for each in orders):
            sorted_._gram[k] = self._gram[k][order][:, order]
            sorted_._cross[k] = self._cross[k][order]
            sorted_._envelopes[k] = self._envelopes[k][first][:, order]
        return sorted_

    def matching_channels(self) -> list[tuple[int, ...]]:
        """For each channel, which of its sources goes with each source of the first channel.

        Speakers are recognised by when they speak, so that neither the delay nor the level between
        microphones matters.
        """
        norms = self._envelopes.sum(dim=1, keepdim=True).clamp_min(1e-30)
        tables = (self._envelopes / norms).tolist()
        orders = list(itertools.permutations(range(self._gram.shape[-1])))
        return orders[:1] + [
            max(orders, key=lambda order: sum(row[j] for row, j in zip(table, order, strict=True)))
            for table in tables[1:]
        ]

    def gains(self) -> Tensor:
        """The gain of every output, ``[C, K]``."""
        return torch.stack([_gains(*each) for each in zip(self._gram, self._cross, strict=True)], 1)


def _gains(gram: Tensor, cross: Tensor) -> Tensor:
    """Least squares that leans towards one common gain.

    Minimises ``|m - sum_i g_i s_i|^2 + ridge * sum_i |s_i|^2 (g_i - g)^2`` with g the best common gain.

    Args:
        gram: Products of the sources among themselves, ``[C, C]``.
        cross: Products of the sources with the mixture, ``[C]``.
    """
    energy = gram.diagonal()
    total = gram.sum()
    common = cross.sum() / total if total > _SILENT * energy.sum() else torch.zeros_like(total)
    gains = common.expand_as(energy).clone()
    heard = energy > _SILENT * energy.max()
    if heard.any() and energy.max() > 0:
        weight = _RIDGE * energy[heard]
        matrix = gram[heard][:, heard] + torch.diag(weight)
        gains[heard] = torch.linalg.solve(matrix, cross[heard] + weight * common)
    return gains
