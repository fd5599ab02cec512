"""Ratios of signal to error in decibels, the ground of every loss and every score.

SI-SNR (= SI-SDR with means removed): Le Roux, Wisdom, Erdogan, Hershey (2019), "SDR - half-baked or well
done?", https://arxiv.org/abs/1811.02508. All functions compute in at least float32, whatever the input.

Shapes: T samples; leading dimensions are free and broadcast.
"""

from __future__ import annotations

import torch
from torch import Tensor

_FLOOR = 1e-8  # keeps ratios of silence finite: at most 80 dB from an energy of one


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
    scale = (estimate * reference).sum(-1, keepdim=True) / (energy.unsqueeze(-1) + _FLOOR)
    target = scale * reference
    return _decibels(_energy(target) / (_energy(estimate - target) + _FLOOR))


def snr(estimate: Tensor, reference: Tensor) -> Tensor:
    """Signal-to-noise ratio: the level of the estimate counts; means are left in.

    Args:
        estimate: ``[..., T]``.
        reference: ``[..., T]``.

    Returns:
        Decibels, ``[...]``; finite for silence.
    """
    estimate, reference = _full_precision(estimate), _full_precision(reference)
    return _decibels(_energy(reference) / (_energy(reference - estimate) + _FLOOR))


def sd_sdr(estimate: Tensor, reference: Tensor) -> Tensor:
    """Scale-dependent SDR: as SI-SNR, but a wrong level counts as distortion (Le Roux 2019, section 3).

    Args:
        estimate: ``[..., T]``.
        reference: ``[..., T]``.

    Returns:
        Decibels, ``[...]``; finite for silence.
    """
    estimate, reference = _centred(estimate), _centred(reference)
    scale = (estimate * reference).sum(-1, keepdim=True) / (_energy(reference).unsqueeze(-1) + _FLOOR)
    return _decibels(_energy(scale * reference) / (_energy(estimate - reference) + _FLOOR))


def _full_precision(signal: Tensor) -> Tensor:
    return signal if signal.dtype == torch.float64 else signal.float()


def _centred(signal: Tensor) -> Tensor:
    signal = _full_precision(signal)
    return signal - signal.mean(-1, keepdim=True)


def _energy(signal: Tensor) -> Tensor:
    return signal.square().sum(-1)


def _decibels(ratio: Tensor) -> Tensor:
    return 10 * torch.log10(ratio + _FLOOR)
