"""A conversation whose voices live in bands of their own, and networks that know these bands."""

from __future__ import annotations

import random

import torch
from torch import Tensor, nn

from tests.inference.oracle import FunctionModel

RATE = 8000
BANDS = ((200.0, 900.0), (1300.0, 2000.0), (2400.0, 3100.0))
HOP = 160
"""Samples from one decision of the detector to the next."""


def in_band(sound: Tensor, band: int, sample_rate: int = RATE) -> Tensor:
    """The part of a sound that lies in a voice's band."""
    low, high = BANDS[band]
    spectrum = torch.fft.rfft(sound)
    hertz = torch.fft.rfftfreq(sound.shape[-1], 1 / sample_rate)
    return torch.fft.irfft(spectrum * ((hertz >= low) & (hertz < high)), sound.shape[-1])


def talk(band: int, seconds: float, *spans: tuple[float, float], sample_rate: int = RATE) -> Tensor:
    """A voice that talks in some spans, ``[T]``."""
    generator = torch.Generator().manual_seed(band)
    sound = in_band(torch.randn(round(seconds * sample_rate), generator=generator), band, sample_rate)
    times = (torch.arange(len(sound)) + 0.5) / sample_rate
    active = torch.zeros(len(sound))
    for start, end in spans:
        active += ((times - start) / 0.01).clamp(0, 1) * ((end - times) / 0.01).clamp(0, 1)
    return 0.1 * sound / sound.std() * active


def _band_energies(sound: Tensor) -> Tensor:
    """Of frames ``[B, bands, L]``, L = T // HOP + 1, frame i from sample i * HOP on."""
    padded = nn.functional.pad(sound, (0, HOP))
    frames = torch.stack([in_band(padded, band) for band in range(len(BANDS))], 1).unfold(-1, HOP, HOP)
    return frames.square().mean(-1)[..., : sound.shape[-1] // HOP + 1]


class ScriptedDetector(nn.Module):
    """Counts the bands that hold sound."""

    sample_rate = RATE
    hop_seconds = HOP / RATE

    def forward(self, mixture: Tensor) -> Tensor:
        """Logits ``[B, L, 3]``."""
        count = (_band_energies(mixture) > 2e-4).sum(1).clamp_max(2)
        return 10.0 * nn.functional.one_hot(count, 3).float()


class ScriptedEmbedder(nn.Module):
    """The levels of the bands."""

    sample_rate = RATE

    def forward(self, speech: Tensor) -> Tensor:
        """Unit vectors ``[B, bands]``."""
        return nn.functional.normalize(_band_energies(speech).mean(-1), dim=-1)


def splitter(num_sources: int = 2, seed: int = 0) -> FunctionModel:
    """Separates by bands: the loudest ones of a piece, in a random order."""
    chance = random.Random(seed)

    def separate(mixture: Tensor) -> Tensor:
        items = []
        for item in mixture:
            voices = sorted(
                (in_band(item, band) for band in range(len(BANDS))),
                key=lambda each: -float(each.square().sum()),
            )[:num_sources]
            chance.shuffle(voices)
            items.append(torch.stack(voices))
        return torch.stack(items)

    return FunctionModel(separate, num_sources)
