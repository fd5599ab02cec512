"""Signal-to-distortion, interference and artefact ratios of BSS Eval version 3, with 512-tap filters.

Vincent, Gribonval, Fevotte (2006), "Performance measurement in blind audio source separation",
https://doi.org/10.1109/TSA.2005.858005. The part of an estimate that is a short filtering of its reference
counts as target, the part that filtered versions of the other references explain as interference, and the
rest as artefact. The three energies are computed from correlations alone, without the projected signals.

Shapes: C references, K signals, T samples, D filter taps.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

NUM_TAPS = 512
"""D of BSS Eval version 3."""


@dataclass(frozen=True)
class FilteredReferences:
    """The spaces that the filtered references span, factorised once and used for every signal.

    Args:
        references: ``[C, T]``, none silent.
        num_taps: D, the length of the allowed distortion filters.
    """

    references: Tensor
    num_taps: int = NUM_TAPS
    _num_fft: int = field(init=False)

    def __post_init__(self) -> None:
        # Correlations at up to D - 1 lags, without wrapping round.
        num_fft = 1 << (self.references.shape[-1] + self.num_taps - 1).bit_length()
        object.__setattr__(self, "_num_fft", num_fft)
        object.__setattr__(self, "references", self.references.double())

    def own_energy(self, signals: Tensor) -> Tensor:
        """The energy of each signal's projection onto each reference's filtered versions.

        Args:
            signals: ``[K, T]``.

        Returns:
            ``[C, K]``.
        """
        return torch.stack(
            [
                _explained(gram, correlation)
                for gram, correlation in zip(self._own_grams, self._correlate(signals), strict=True)
            ]
        )

    def joint_energy(self, signals: Tensor) -> Tensor:
        """The energy of each signal's projection onto all filtered references together.

        Args:
            signals: ``[K, T]``.

        Returns:
            ``[K]``.
        """
        correlation = self._correlate(signals).flatten(0, 1)  # [C*D, K]
        return _explained(self._joint_gram, correlation)

    @cached_property
    def _spectra(self) -> Tensor:
        return torch.fft.rfft(self.references, self._num_fft)

    @cached_property
    def _own_grams(self) -> Tensor:
        """Toeplitz matrices of the references' autocorrelations, ``[C, D, D]``."""
        return _toeplitz(self._lags(self._spectra.conj() * self._spectra))

    @cached_property
    def _joint_gram(self) -> Tensor:
        """The block Toeplitz matrix of all correlations, ``[C*D, C*D]``."""
        blocks = _toeplitz(self._lags(self._spectra.conj().unsqueeze(1) * self._spectra))  # [C, C, D, D]
        return blocks.transpose(1, 2).flatten(0, 1).flatten(1, 2)

    def _lags(self, spectra: Tensor) -> Tensor:
        """Correlations at lags -(D-1) ... D-1, ``[..., 2D-1]``."""
        correlation = torch.fft.irfft(spectra, self._num_fft)
        return torch.cat([correlation[..., 1 - self.num_taps :], correlation[..., : self.num_taps]], -1)

    def _correlate(self, signals: Tensor) -> Tensor:
        """Correlations of the signals with each reference delayed by 0 ... D-1, ``[C, D, K]``."""
        spectra = torch.fft.rfft(signals.double(), self._num_fft)
        products = self._spectra.conj().unsqueeze(1) * spectra  # [C, K, F]
        return torch.fft.irfft(products, self._num_fft)[..., : self.num_taps].mT


def sdr(estimates: Tensor, references: Tensor) -> Tensor:
    """Signal-to-distortion ratio of estimates in the references' order.

    Args:
        estimates: ``[C, T]``.
        references: ``[C, T]``, none silent.

    Returns:
        Decibels, ``[C]``; infinite for a perfect estimate.
    """
    return sdr_table(FilteredReferences(references), estimates).diagonal()


def sdr_table(space: FilteredReferences, signals: Tensor) -> Tensor:
    """SDR of every signal as an estimate of every reference.

    Args:
        space: The references.
        signals: ``[K, T]``.

    Returns:
        Decibels, ``[C, K]``.
    """
    target = space.own_energy(signals)
    return _decibels(target, _energy(signals) - target)


def interference_and_artefacts(space: FilteredReferences, estimates: Tensor) -> tuple[Tensor, Tensor]:
    """SIR and SAR of estimates in the references' order.

    Args:
        space: The references.
        estimates: ``[C, T]``.

    Returns:
        Decibels of signal to interference and of signal to artefacts, ``[C]`` each.
    """
    target = space.own_energy(estimates).diagonal()
    joint = space.joint_energy(estimates)
    return _decibels(target, joint - target), _decibels(joint, _energy(estimates) - joint)


def _toeplitz(lags: Tensor) -> Tensor:
    """Matrices with ``[a, b] = lag (a - b)`` from ``[..., 2D-1]``, ``[..., D, D]``."""
    num_taps = (lags.shape[-1] + 1) // 2
    return lags.flip(-1).unfold(-1, num_taps, 1).flip(-2)


def _explained(gram: Tensor, correlation: Tensor) -> Tensor:
    """The energy that a span explains, ``[K]``, from its Gram matrix and correlations ``[N, K]``."""
    factor, failed = torch.linalg.cholesky_ex(gram)
    if failed:  # references that are (filtered) copies of each other: their span has fewer dimensions
        solution = torch.linalg.lstsq(gram, correlation, driver="gelsd").solution
        return (correlation * solution).sum(0)
    return torch.linalg.solve_triangular(factor, correlation, upper=False).square().sum(0)


def _energy(signals: Tensor) -> Tensor:
    return signals.double().square().sum(-1)


def _decibels(signal: Tensor, error: Tensor) -> Tensor:
    return 10 * torch.log10(signal / error.clamp_min(0))
