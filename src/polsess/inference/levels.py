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

import numpy as np
from numpy.typing import NDArray

from polsess.audio import Samples

Exact = NDArray[np.float64]

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
        self._gram: Exact = np.zeros((num_channels, num_sources, num_sources))
        self._cross: Exact = np.zeros((num_channels, num_sources))
        self._energies: Samples = np.zeros((num_channels, num_sources, 0), np.float32)

    def add(self, sources: Samples, mixture: Samples) -> None:
        """Add a block.

        Args:
            sources: Estimates ``[C, K, n]``.
            mixture: ``[K, n]``.
        """
        rows = sources.swapaxes(0, 1).astype(np.float64)  # [K, C, n]
        self._gram += rows @ rows.swapaxes(-1, -2)
        self._cross += (rows @ mixture.astype(np.float64)[..., None])[..., 0]
        length = rows.shape[-1] // self._frame * self._frame
        energies = np.square(rows[..., :length]).reshape(*rows.shape[:-1], -1, self._frame).mean(-1)
        self._energies = np.concatenate([self._energies, energies.astype(np.float32)], -1)

    def __iadd__(self, other: LevelStatistics) -> Self:
        """Add the blocks of other statistics."""
        self._gram += other._gram
        self._cross += other._cross
        self._energies = np.concatenate([self._energies, other._energies], -1)
        return self

    def in_order(self, orders: Sequence[tuple[int, ...]]) -> LevelStatistics:
        """The statistics with the sources of every channel in another order.

        Args:
            orders: For each channel, the old place of each source.
        """
        num_channels, num_sources, _ = self._gram.shape
        sorted_ = LevelStatistics(num_sources, num_channels, 1)
        sorted_._energies = np.empty_like(self._energies)
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
        envelopes = np.sqrt(self._energies.astype(np.float64))
        products = envelopes[:1] @ envelopes.swapaxes(-1, -2)  # first channel against each
        tables = (products / np.maximum(products.sum(1, keepdims=True), 1e-30)).tolist()
        orders = list(itertools.permutations(range(self._gram.shape[-1])))
        return orders[:1] + [
            max(orders, key=lambda order: sum(row[j] for row, j in zip(table, order, strict=True)))
            for table in tables[1:]
        ]

    def gains(self) -> Exact:
        """The gain of every output, ``[C, K]``."""
        return np.stack([_gains(*each) for each in zip(self._gram, self._cross, strict=True)], 1)

    @property
    def num_frames(self) -> int:
        """L: number of frames of 20 ms."""
        return self._energies.shape[-1]

    def onsets(self) -> list[int]:
        """For each source, the frame in which its voice has clearly begun; L if it never does.

        A voice is active in a frame that is above the steady noise of its output and not so far below another
        voice that it may be leakage. The gains decide how loud the outputs are.
        """
        energy = (self._energies * np.square(self.gains()).astype(np.float32).T[..., None]).sum(0)  # [C, L]
        if not self.num_frames:
            return [0] * len(energy)
        onsets: list[int] = (active_frames(energy).cumsum(-1) < _ONSET_FRAMES).sum(-1).tolist()
        return onsets


def active_frames(energy: Samples) -> NDArray[np.bool_]:
    """Whether each voice is heard: above the steady noise of its output, and not leakage of another voice.

    Args:
        energy: Of the frames of all voices, at least one, ``[C, L]``.

    Returns:
        ``[C, L]`` bool.
    """
    loud = np.quantile(energy.sum(0), 0.95)
    noise = np.quantile(energy, 0.1, axis=-1, keepdims=True)
    floor = np.clip(noise * _power(_ABOVE_NOISE_DB), loud * _power(_AUDIBLE_DB), loud * _power(_CLEAR_DB))
    return energy > np.maximum(floor, energy.max(0) * _power(_LEAKAGE_DB))


def _power(decibels: float) -> float:
    return 10.0 ** (decibels / 10)


def _gains(gram: Exact, cross: Exact) -> Exact:
    """Least squares that leans towards one common gain.

    Minimises ``|m - sum_i g_i s_i|^2 + ridge * sum_i |s_i|^2 (g_i - g)^2`` with g the best common gain.

    Args:
        gram: Products of the sources among themselves, ``[C, C]``.
        cross: Products of the sources with the mixture, ``[C]``.
    """
    energy = gram.diagonal()
    total = gram.sum()
    common = cross.sum() / total if total > _SILENT * energy.sum() else 0.0
    gains = np.full(len(energy), common)
    heard = energy > _SILENT * energy.max()
    if heard.any() and energy.max() > 0:
        weight = _RIDGE * energy[heard]
        matrix = gram[heard][:, heard] + np.diag(weight)
        gains[heard] = np.linalg.solve(matrix, cross[heard] + weight * common)
    return gains
