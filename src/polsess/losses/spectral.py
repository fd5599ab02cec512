"""Distance of magnitude spectra at several resolutions, a companion of losses on waveforms.

Yamamoto, Song, Kim (2020), "Parallel WaveGAN", section 2.2, https://arxiv.org/abs/1910.11480.

Shapes: T samples, F bins, L frames; leading dimensions are free.
"""

from __future__ import annotations

import torch
from pydantic import Field, field_validator
from torch import Tensor

from polsess.schema import Schema

_FLOOR = (
    1e-8  # of the power of a bin: magnitudes stay above 1e-4, so that logarithms and gradients are finite
)


class SpectralLossConfig(Schema):
    """Resolutions of the spectra and the weight of their distance."""

    weight: float = Field(default=1.0, gt=0)
    """dB that a distance of 1 counts as, beside the signal ratio."""
    n_ffts: tuple[int, ...] = Field(default=(256, 512, 1024), min_length=1)
    """Window lengths in samples, Hann; frames are a quarter apart."""

    @field_validator("n_ffts")
    @classmethod
    def _check_lengths(cls, n_ffts: tuple[int, ...]) -> tuple[int, ...]:
        if any(n_fft < 4 for n_fft in n_ffts):
            raise ValueError(f"windows must have at least 4 samples, got {list(n_ffts)}.")
        return n_ffts


class SpectralLoss:
    """Spectral convergence plus the mean distance of log magnitudes, averaged over resolutions.

    Args:
        config: The resolutions; ``weight`` is left to the caller.
    """

    def __init__(self, config: SpectralLossConfig) -> None:
        self.config = config

    def __call__(self, estimate: Tensor, reference: Tensor) -> Tensor:
        """The distance of each pair of signals.

        Args:
            estimate: ``[..., T]``.
            reference: ``[..., T]``.

        Returns:
            ``[...]``, zero for equal signals; finite, with finite gradients, for silence.
        """
        each = [_distance(estimate, reference, n_fft) for n_fft in self.config.n_ffts]
        return torch.stack(each).mean(0).view(estimate.shape[:-1])


def _distance(estimate: Tensor, reference: Tensor, n_fft: int) -> Tensor:
    ours, target = _magnitude(estimate, n_fft), _magnitude(reference, n_fft)
    norm = torch.linalg.vector_norm
    # The sum of squares rather than the norm's own root: its gradient at equal signals is not finite.
    error = ((ours - target).square().sum((-2, -1)) + _FLOOR).sqrt() - _FLOOR**0.5
    convergence = error / norm(target, dim=(-2, -1))
    return convergence + (ours.log() - target.log()).abs().mean((-2, -1))


def _magnitude(signal: Tensor, n_fft: int) -> Tensor:
    """``[..., T]`` to ``[N, F, L]``; signals shorter than a window are padded with zeros, not mirrored."""
    window = torch.hann_window(n_fft, device=signal.device)
    spectrum = torch.stft(
        signal.float().reshape(-1, signal.shape[-1]),
        n_fft,
        hop_length=n_fft // 4,
        window=window,
        pad_mode="constant",
        return_complex=True,
    )
    return (spectrum.real.square() + spectrum.imag.square() + _FLOOR).sqrt()
