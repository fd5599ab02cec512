"""Small data and models that the tests of evaluation share."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from polsess.audio import read_audio, write_audio
from polsess.data import Corpus, Example, Split, create_corpus, parse_corpus_config
from polsess.data.mini import MIXTURES
from polsess.evaluation import ModelSystem
from polsess.evaluation.systems import Estimate
from polsess.models import ModelConfig, SeparationModel
from polsess.tasks import Task

VOICES = MIXTURES / "8k"
"""Mixtures of two recorded voices at 8 kHz."""


class HalvesConfig(ModelConfig):
    model_type: Literal["halves"] = "halves"


class Halves(SeparationModel):
    """Gives every source an equal share of the mixture, a little delayed in the second."""

    calls = 0

    @property
    def hop_length(self) -> int:
        return 1

    def estimate_sources(self, mixture: Tensor) -> Tensor:
        shares = [mixture.roll(shift, -1) for shift in range(self.output_sources)]
        return torch.stack(shares, 1) / self.output_sources


class CountedSystem(ModelSystem):
    """Counts the utterances that it is asked for."""

    def estimate(self, example: Example) -> Estimate:
        Halves.calls += 1
        return super().estimate(example)


def halves(num_sources: int = 2, sample_rate: int = 8000) -> ModelSystem:
    Halves.calls = 0
    return CountedSystem(Halves(HalvesConfig(num_sources=num_sources, sample_rate=sample_rate)), "halves")


def write_items(folder: Path, num_items: int = 4, num_samples: int = 2000, sample_rate: int = 8000) -> Path:
    """A folder of noise mixtures, quiet enough that 16 bits do not clip."""
    generator = torch.Generator().manual_seed(1)
    for index in range(num_items):
        sources = 0.1 * torch.randn(2, num_samples + 7 * index, generator=generator)
        item = folder / f"item{index}"
        item.mkdir(parents=True)
        for name, signal in zip(("mix", "s1", "s2"), (sources.sum(0), *sources), strict=True):
            write_audio(item / f"{name}.wav", signal[None], sample_rate)
    return folder


def write_estimates(items: Path, folder: Path) -> Path:
    """Estimates of a folder's items by a system called ``system``: their references with a little noise."""
    for item in (path for path in items.iterdir() if path.is_dir()):
        target = folder / item.name / "system"
        target.mkdir(parents=True)
        for name in ("s1", "s2"):
            samples, rate = read_audio(next(item.glob(f"{name}.*")))
            noisy = samples + 0.01 * samples.std() * torch.randn_like(samples)
            write_audio(target / f"{name}.wav", noisy, rate, clip_mode="clamp")
    return folder


def open_folder(folder: Path, task: Task = Task.SB, sample_rate: int = 8000) -> Corpus:
    data = {"corpus_type": "folder", "folder": str(folder), "sample_rate": sample_rate}
    return create_corpus(parse_corpus_config(data), Split.TEST, task)
