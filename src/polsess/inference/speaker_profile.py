"""Which voice is this? A Gaussian of cepstra per speaker, without training and without pitch.

Each speaker is remembered as the mean and covariance of twelve mel cepstra over the frames in which that
speaker is heard alone or loudest (Bimbot, Magrin-Chagnolleau, Mathan: "Second-order statistical measures for
text-independent speaker identification", Speech Communication 17, 1995,
https://doi.org/10.1016/0167-6393(95)00013-E).

Shapes: C sources, T samples, L frames, D cepstra.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

NUM_CEPSTRA = 12
_NUM_BANDS = 24
_LOWEST_HZ, _HIGHEST_HZ = 80.0, 7600.0
_WINDOW_SECONDS = 0.032
_SPEECH_RANGE_DB = 25.0
"""Frames this far below the loud speech count as silent."""
_ABOVE_NOISE_DB = 6.0
_DOMINANCE_DB = 3.0
"""How much louder than the other outputs a frame must be to describe its speaker."""
_SHRINKAGE_FRAMES = 50.0
_VARIANCE_FLOOR = 0.01


class CepstralFrames:
    """Short-time energies and cepstra of some outputs.

    Args:
        sources: ``[C, T]``.
        sample_rate: In Hz.
    """

    def __init__(self, sources: Tensor, sample_rate: int) -> None:
        n_fft = 2 * round(_WINDOW_SECONDS * sample_rate / 2)
        padded = torch.nn.functional.pad(sources, (0, max(0, n_fft - sources.shape[-1])))
        window = torch.hann_window(n_fft)
        window /= window.square().sum().sqrt()  # so that the energy of a frame is its mean square
        spectrum = torch.stft(padded, n_fft, n_fft // 2, window=window, center=False, return_complex=True)
        power = spectrum.abs().square()  # [C, F, L]
        self.energy = power.mean(1)  # [C, L]
        bands = _mel_bands(n_fft, sample_rate) @ power
        floor = 1e-6 * bands.amax(dim=(1, 2), keepdim=True).clamp_min(1e-20)
        self.cepstra = (_cosines() @ torch.log(bands + floor)).mT  # [C, L, D]

    def loud_level(self) -> float:
        """The energy of a loud frame of all outputs together."""
        return float(self.energy.sum(0).quantile(0.95))

    def speech_threshold(self, loud_level: float) -> float:
        """The energy from which a frame is speech: near that of loud speech, and well above steady noise."""
        noise = float(self.energy.sum(0).quantile(0.1))
        above_noise = min(noise * 10 ** (_ABOVE_NOISE_DB / 10), loud_level * 10 ** (-_ABOVE_NOISE_DB / 10))
        return max(loud_level * 10 ** (-_SPEECH_RANGE_DB / 10), above_noise)

    def speech(self, threshold: float) -> Tensor:
        """Frames of each output that hold its speaker's voice, ``[C, L]`` bool."""
        others = self.energy.sum(0) - self.energy
        return (self.energy > threshold) & (self.energy > others * 10 ** (_DOMINANCE_DB / 10))


class SpeakerProfile:
    """The memory of one voice."""

    def __init__(self) -> None:
        self.num_frames = 0
        self._sum = torch.zeros(NUM_CEPSTRA, dtype=torch.float64)
        self._products = torch.zeros(NUM_CEPSTRA, NUM_CEPSTRA, dtype=torch.float64)

    def add(self, cepstra: Tensor) -> None:
        """Remember frames ``[L, D]``."""
        cepstra = cepstra.double()
        self.num_frames += len(cepstra)
        self._sum += cepstra.sum(0)
        self._products += cepstra.T @ cepstra

    def __add__(self, other: SpeakerProfile) -> SpeakerProfile:
        """The memory of both."""
        return self._combined(other, 1)

    def __sub__(self, other: SpeakerProfile) -> SpeakerProfile:
        """The memory without what the other holds."""
        return self._combined(other, -1)

    def _combined(self, other: SpeakerProfile, sign: int) -> SpeakerProfile:
        result = SpeakerProfile()
        result.num_frames = self.num_frames + sign * other.num_frames
        result._sum = self._sum + sign * other._sum
        result._products = self._products + sign * other._products
        return result

    def spread(self) -> float:
        """How little the frames are alike: their number times the log-determinant of their covariance.

        Two memories of one voice add up to about the spread of both together, those of two voices to less.
        """
        if self.num_frames == 0:
            return 0.0
        mean = self._sum / self.num_frames
        covariance = self._products / self.num_frames - torch.outer(mean, mean)
        diagonal = torch.diag(covariance.diagonal())
        weight = self.num_frames / (self.num_frames + _SHRINKAGE_FRAMES)  # little says little about shape
        floor = _VARIANCE_FLOOR * torch.eye(NUM_CEPSTRA, dtype=torch.float64)
        return self.num_frames * float(torch.logdet(weight * (covariance - diagonal) + diagonal + floor))


@functools.cache
def _mel_bands(n_fft: int, sample_rate: int) -> Tensor:
    """Triangular bands, ``[bands, F]``."""
    highest = min(_HIGHEST_HZ, 0.975 * sample_rate / 2)
    low, high = (2595 * math.log10(1 + hz / 700) for hz in (min(_LOWEST_HZ, highest / 2), highest))
    edges = 700 * (10 ** (torch.linspace(low, high, _NUM_BANDS + 2) / 2595) - 1)
    bins = torch.arange(n_fft // 2 + 1) * sample_rate / n_fft
    left, centre, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    return torch.minimum((bins - left) / (centre - left), (right - bins) / (right - centre)).clamp_min(0.0)


@functools.cache
def _cosines() -> Tensor:
    """Cosine transform without its constant row, so that the level does not matter, ``[D, bands]``."""
    rows = torch.arange(1, NUM_CEPSTRA + 1).unsqueeze(1)
    columns = torch.arange(_NUM_BANDS) + 0.5
    return torch.cos(math.pi / _NUM_BANDS * rows * columns) * math.sqrt(2 / _NUM_BANDS)
