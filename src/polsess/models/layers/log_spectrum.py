"""Log spectra that do not depend on level, for the networks that say who speaks when.

Shapes: B batch, T samples, L frames, F features.
"""

from __future__ import annotations

import math
from typing import Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from polsess.models.layers.stft import without_autocast
from polsess.models.network import NetworkConfig

_FLOOR = 1e-5
"""Power below the mean of a recording, as a ratio, that counts as silence."""


class SpectrumConfig(NetworkConfig):
    """Frames of a network that hears log spectra."""

    sample_rate: int = Field(default=8000, ge=4000, le=192_000)
    """In Hz, of what it hears."""
    n_fft: int = Field(default=256, ge=32, le=8192)
    """Samples of a Hann-windowed frame."""
    hop_length: int = Field(default=80, ge=1, le=4096)
    """Samples between frames."""

    @model_validator(mode="after")
    def _frames_overlap(self) -> Self:
        if self.hop_length > self.n_fft:
            raise ValueError(f"hop_length={self.hop_length} must be at most n_fft={self.n_fft}.")
        return self


class LogSpectrum(nn.Module):
    """Logarithm of the power in frequency bands, relative to the mean power of the input.

    Args:
        config: The frames.
        num_mels: Triangular bands on the mel scale.
    """

    window: Tensor
    bands: Tensor

    def __init__(self, config: SpectrumConfig, num_mels: int) -> None:
        super().__init__()
        self.n_fft, self.hop_length = config.n_fft, config.hop_length
        self.register_buffer("window", torch.hann_window(config.n_fft), persistent=False)
        bands = mel_bands(num_mels, config.n_fft, config.sample_rate)
        self.register_buffer("bands", bands, persistent=False)

    def forward(self, mixture: Tensor) -> Tensor:
        """Features of waveforms.

        Args:
            mixture: ``[B, T]``.

        Returns:
            ``[B, F, L]`` with L = T // hop_length + 1; zeros for digital silence.
        """
        padded = nn.functional.pad(mixture, (0, max(0, self.n_fft // 2 + 1 - mixture.shape[-1])))
        with without_autocast(mixture):
            spectrum = torch.stft(
                padded,
                self.n_fft,
                self.hop_length,
                window=self.window,
                pad_mode="constant",
                return_complex=True,
            )
            power = self.bands @ (spectrum.real.square() + spectrum.imag.square())
        mean = power.mean(dim=(1, 2), keepdim=True)
        features = torch.log(power / mean.clamp_min(1e-20) + _FLOOR) - math.log(_FLOOR)
        return features[..., : mixture.shape[-1] // self.hop_length + 1]


def mel_bands(num_mels: int, n_fft: int, sample_rate: int, lowest_hz: float = 60.0) -> Tensor:
    """Triangular bands of equal width in mel, up to half the rate: ``[num_mels, n_fft // 2 + 1]``."""
    low, high = (2595 * math.log10(1 + hz / 700) for hz in (lowest_hz, sample_rate / 2))
    edges = 700 * (10 ** (torch.linspace(low, high, num_mels + 2) / 2595) - 1)
    bins = torch.arange(n_fft // 2 + 1) * sample_rate / n_fft
    left, centre, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    return torch.minimum((bins - left) / (centre - left), (right - bins) / (right - centre)).clamp_min(0.0)
