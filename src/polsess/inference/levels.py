"""Levels true to the mixture: one gain per output over the whole recording, by least squares.

A network trained on a scale-invariant loss returns its estimates at any level, even with the sign turned. The
gains g that make ``sum_i g_i * source_i`` best resemble the mixture undo that; with one source this is the
projection of the mixture on the estimate. They are found once for the whole recording, because gains per
segment would pump. Where least squares is undetermined (a silent output, or two outputs alike) the gains lean
towards one gain common to all.

Shapes: C sources, K channels, T samples, L frames.
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
_AUDIBLE_DB, _CLEAR_DB = -30.0, -18.0
"""Relative to loud speech: the lowest level that is audible, and the highest that steady noise can have."""
_ABOVE_NOISE_DB = 6.0
_LEAKAGE_DB = -6.0
"""A voice this far below another one in the same frame may be leakage of that one."""
_ONSET_FRAMES = 10
"""Number of active frames after which a voice has begun; a click has fewer."""


class LevelStatistics:
    """Statistics of a recording, added block by block, for its gains, matching of channels and onsets.

    Args:
        num_sources: C.
        num_channels: K.
        sample_rate: In Hz.
    """

    def __init__(self, num_sources: int, num_channels: int, sample_rate: int) -> None:
        self._frame = max(1, round(_FRAME_SECONDS * sample_rate))
        self._gram = torch.zeros(num_channels, num_sources, num_sources, dtype=torch.float64)
        self._cross = torch.zeros(num_channels, num_sources, dtype=torch.float64)
        self._energies = torch.zeros(num_channels, num_sources, 0)

    def add(self, sources: Tensor, mixture: Tensor) -> None:
        """Add a block.

        Args:
            sources: Estimates ``[C, K, n]``.
            mixture: ``[K, n]``.
        """
        rows = sources.transpose(0, 1).double()  # [K, C, n]
        self._gram += rows @ rows.mT
        self._cross += (rows @ mixture.double().unsqueeze(-1)).squeeze(-1)
        length = rows.shape[-1] // self._frame * self._frame
        energies = rows[..., :length].unflatten(-1, (-1, self._frame)).square().mean(-1)
        self._energies = torch.cat([self._energies, energies.float()], -1)

    def __iadd__(self, other: LevelStatistics) -> Self:
        """Add the blocks of other statistics."""
        self._gram += other._gram
        self._cross += other._cross
        self._energies = torch.cat([self._energies, other._energies], -1)
        return self

    def in_order(self, orders: Sequence[tuple[int, ...]]) -> LevelStatistics:
        """The statistics with the sources of every channel in another order.

        Args:
            orders: For each channel, the old place of each source.
        """
        num_channels, num_sources, _ = self._gram.shape
        sorted_ = LevelStatistics(num_sources, num_channels, 1)
        sorted_._energies = torch.empty_like(self._energies)
        for k, order in enumerate(list(each) for each in orders):
            sorted_._gram[k] = self._gram[k][order][:, order]
            sorted_._cross[k] = self._cross[k][order]
            sorted_._energies[k] = self._energies[k][order]
        return sorted_

    def matching_channels(self) -> list[tuple[int, ...]]:
        """For each channel, the source that matches each source of the first channel.

        Speakers are matched by when they speak, so that neither the delay nor the level between microphones
        matters.
        """
        envelopes = self._energies.double().sqrt()
        products = envelopes[:1] @ envelopes.mT  # first channel against each
        tables = (products / products.sum(dim=1, keepdim=True).clamp_min(1e-30)).tolist()
        orders = list(itertools.permutations(range(self._gram.shape[-1])))
        return orders[:1] + [
            max(orders, key=lambda order: sum(row[j] for row, j in zip(table, order, strict=True)))
            for table in tables[1:]
        ]

    def gains(self) -> Tensor:
        """The gain of every output, ``[C, K]``."""
        return torch.stack([_gains(*each) for each in zip(self._gram, self._cross, strict=True)], 1)

    @property
    def num_frames(self) -> int:
        """L: number of frames of 20 ms."""
        return self._energies.shape[-1]

    def onsets(self) -> list[int]:
        """For each source, the frame in which its voice has clearly begun; L if it never does.

        A voice is active in a frame that is above the steady noise of its output and not so far below another
        voice that it may be leakage. The gains decide how loud the outputs are.
        """
        energy = (self._energies * self.gains().float().square().T.unsqueeze(-1)).sum(0)  # [C, L]
        if not self.num_frames:
            return [0] * len(energy)
        return (active_frames(energy).cumsum(-1) < _ONSET_FRAMES).sum(-1).tolist()


def active_frames(energy: Tensor) -> Tensor:
    """Whether each voice is heard: above the steady noise of its output, and not leakage of another voice.

    Args:
        energy: Of the frames of all voices, at least one, ``[C, L]``.

    Returns:
        ``[C, L]`` bool.
    """
    loud = energy.sum(0).quantile(0.95)
    noise = energy.quantile(0.1, dim=-1, keepdim=True)
    floor = (noise * _power(_ABOVE_NOISE_DB)).clamp(loud * _power(_AUDIBLE_DB), loud * _power(_CLEAR_DB))
    return energy > torch.maximum(floor, energy.amax(0) * _power(_LEAKAGE_DB))


def _power(decibels: float) -> float:
    return 10.0 ** (decibels / 10)


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
