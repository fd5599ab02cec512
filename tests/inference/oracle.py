"""Models that know the answer, for testing everything around a model."""

from __future__ import annotations

import random
from collections.abc import Callable

import torch
from torch import Tensor

from polsess.models import ModelConfig, SeparationModel


class FunctionModel(SeparationModel):
    """A model that is any function from mixtures ``[B, T]`` to estimates ``[B, C, T]``."""

    def __init__(
        self, function: Callable[[Tensor], Tensor], num_sources: int = 2, sample_rate: int = 8000
    ) -> None:
        super().__init__(ModelConfig(model_type="function", num_sources=num_sources, sample_rate=sample_rate))
        self._function = function
        self.calls: list[tuple[int, ...]] = []

    @property
    def hop_length(self) -> int:
        return 1

    def estimate_sources(self, mixture: Tensor) -> Tensor:
        self.calls.append(tuple(mixture.shape))
        return self._function(mixture)


def identity(num_sources: int = 1, sample_rate: int = 8000) -> FunctionModel:
    """Every estimate is the mixture."""
    return FunctionModel(
        lambda mixture: mixture.unsqueeze(1).repeat(1, num_sources, 1), num_sources, sample_rate
    )


class Oracle(FunctionModel):
    """Finds the references of a mixture by looking the piece up, and gives them in a random order.

    Args:
        references: ``[C, T]``; their sum must not repeat itself.
        gains: The level of each estimate.
        shuffle: Whether the order is random at each call.
    """

    def __init__(
        self,
        references: Tensor,
        gains: tuple[float, ...] | None = None,
        shuffle: bool = True,
        sample_rate: int = 8000,
    ) -> None:
        super().__init__(self._look_up, len(references), sample_rate)
        self._references, self._mixture = references, references.sum(0)
        self._gains = torch.tensor(gains or (1.0,) * len(references)).unsqueeze(1)
        self._random, self._shuffle = random.Random(0), shuffle

    def _look_up(self, mixture: Tensor) -> Tensor:
        return torch.stack([self._one(item) for item in mixture])

    def _one(self, item: Tensor) -> Tensor:
        total, length = self._mixture.double(), len(item)
        size = 2 * len(total)
        spectrum = torch.fft.rfft(total, size) * torch.fft.rfft(item.double(), size).conj()
        products = torch.fft.irfft(spectrum, size)[: len(total) - length + 1]
        energy = torch.nn.functional.pad(total.square().cumsum(0), (1, 0))
        energy = (energy[length:] - energy[:-length]).clamp_min(1e-9)
        place = int((products / energy.sqrt()).argmax())
        order = list(range(len(self._references)))
        if self._shuffle:
            self._random.shuffle(order)
        return (self._references[:, place : place + length] * self._gains)[order]


def voice(formants: tuple[float, ...], seconds: float, seed: int, sample_rate: int = 8000) -> Tensor:
    """Syllables of filtered noise: a speaker with resonances of his own."""
    generator = torch.Generator().manual_seed(seed)
    length = round(seconds * sample_rate)
    spectrum = torch.fft.rfft(torch.randn(length, generator=generator))
    hertz = torch.fft.rfftfreq(length, 1 / sample_rate)
    shape = sum(torch.exp(-0.5 * ((hertz - formant) / 150) ** 2) for formant in formants)
    sound = torch.fft.irfft(spectrum * shape, length)
    frame = round(0.15 * sample_rate)
    syllables = torch.rand(length // frame + 1, generator=generator).square()
    envelope = torch.nn.functional.interpolate(
        syllables[None, None], size=length, mode="linear", align_corners=False
    )[0, 0]
    sound = sound * (0.05 + envelope)
    return 0.1 * sound / sound.std()
