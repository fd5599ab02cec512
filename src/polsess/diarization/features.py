"""Log spectra that do not depend on level, for the networks that say who speaks when.

Shapes: B batch, T samples, L frames, F features.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

_FLOOR = 1e-5
"""Power below the mean of a recording, as a ratio, that counts as silence."""


class LogSpectrum(nn.Module):
    """Logarithm of the power in frequency bands, relative to the mean power of the input.

    Args:
        sample_rate: In Hz.
        n_fft: Length of the window and the transform.
        hop_length: From one frame to the next.
        num_mels: Triangular bands on the mel scale; None for the bins of the transform.
    """

    window: Tensor
    bands: Tensor

    def __init__(self, sample_rate: int, n_fft: int, hop_length: int, num_mels: int | None = None) -> None:
        super().__init__()
        self.n_fft, self.hop_length = n_fft, hop_length
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        bins = n_fft // 2 + 1
        bands = torch.eye(bins) if num_mels is None else mel_bands(num_mels, n_fft, sample_rate)
        self.register_buffer("bands", bands, persistent=False)
        self.num_features = len(bands)

    def forward(self, mixture: Tensor) -> Tensor:
        """Features of waveforms.

        Args:
            mixture: ``[B, T]``.

        Returns:
            ``[B, F, L]`` with L = T // hop_length + 1; zeros for digital silence.
        """
        padded = nn.functional.pad(mixture, (0, max(0, self.n_fft // 2 + 1 - mixture.shape[-1])))
        with torch.autocast(mixture.device.type, enabled=False):
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
