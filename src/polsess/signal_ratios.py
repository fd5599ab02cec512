"""Ratios of signal to error in decibels, the basis of every loss and every score.

SI-SNR (= SI-SDR with means removed): Le Roux, Wisdom, Erdogan, Hershey (2019), "SDR - half-baked or well
done?", https://arxiv.org/abs/1811.02508. All functions compute in at least float32, whatever the input.

Shapes: T samples; leading dimensions are free and broadcast.
"""

from __future__ import annotations

import torch
from torch import Tensor

_FLOOR = 1e-8  # keeps ratios finite: at most 80 dB
_SILENCE = 1e-16  # energy below which a signal counts as none; the square of its inverse is a float32


def si_snr(estimate: Tensor, reference: Tensor) -> Tensor:
    """Scale-invariant signal-to-noise ratio with the means removed.

    Args:
        estimate: ``[..., T]``.
        reference: ``[..., T]``.

    Returns:
        Decibels, ``[...]``. Finite for silence: about -80 dB for a silent reference, with gradients of zero.
    """
    estimate, reference = _centred(estimate), _centred(reference)
    energy = _energy(reference)
    scale = (estimate * reference).sum(-1) / (energy + _floor(energy))
    target = scale.unsqueeze(-1) * reference
    error = _energy(estimate - target)
    # The floor follows the energy of the estimate, whose level is free.
    return _decibels(_energy(target) / (error + _floor(_energy(estimate))))


def snr(estimate: Tensor, reference: Tensor, *, zero_mean: bool = False) -> Tensor:
    """Signal-to-noise ratio: the level of the estimate counts.

    Args:
        estimate: ``[..., T]``.
        reference: ``[..., T]``.
        zero_mean: Whether the means of both are removed, as Asteroid and Look2Hear do, or left in.

    Returns:
        Decibels, ``[...]``; finite for silence.
    """
    prepare = _centred if zero_mean else _full_precision
    estimate, reference = prepare(estimate), prepare(reference)
    energy = _energy(reference)
    return _decibels(energy / (_energy(reference - estimate) + _floor(energy)))


def sd_sdr(estimate: Tensor, reference: Tensor) -> Tensor:
    """Scale-dependent SDR: as SI-SNR, but a wrong level counts as distortion (Le Roux 2019, section 3).

    Args:
        estimate: ``[..., T]``.
        reference: ``[..., T]``.

    Returns:
        Decibels, ``[...]``; finite for silence.
    """
    estimate, reference = _centred(estimate), _centred(reference)
    energy = _energy(reference)
    scale = (estimate * reference).sum(-1) / (energy + _floor(energy))
    target = _energy(scale.unsqueeze(-1) * reference)
    return _decibels(target / (_energy(estimate - reference) + _floor(energy)))


def _full_precision(signal: Tensor) -> Tensor:
    return signal if signal.dtype == torch.float64 else signal.float()


def _centred(signal: Tensor) -> Tensor:
    signal = _full_precision(signal)
    return signal - signal.mean(-1, keepdim=True)


def _energy(signal: Tensor) -> Tensor:
    return signal.square().sum(-1)


def _floor(energy: Tensor) -> Tensor:
    """Addend of an energy in a denominator: small beside the signal's own energy, and beside one.

    For loud signals it is exactly that of other toolkits; quiet ones are not biased by it.
    """
    return _FLOOR * energy.detach().clamp(max=1.0) + _SILENCE


def _decibels(ratio: Tensor) -> Tensor:
    return 10 * torch.log10(ratio + _FLOOR)
