"""The clips of a test and its sounds: drawn, cut to length, degraded as anchors, made equally loud.

A clip is one target of one utterance with the estimates of every system.

Shapes: C sources, T samples.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polsess.audio import integrated_loudness
from polsess.evaluation import SavedEvaluation, UtteranceSounds
from polsess.schema import ConfigError, suggest

Pcm = NDArray[np.int16]

LOUDNESS_LUFS = -23.0
_PEAK = 10 ** (-1 / 20)
_FADE_SECONDS = 0.01
_HALFWAY_DB = 10.0
_STANDARD_CUTOFFS_HZ = {"low": 3500.0, "mid": 7000.0}
_NYQUIST_SHARES = {"low": 0.25, "mid": 0.5}
_TRANSITION = 0.13  # of the cutoff; BS.1534-3 asks for 25 dB at 1.14 times the cutoff and 50 dB at 1.29 times
_STOP_DB = 60.0


@dataclass(frozen=True)
class Clip:
    """One target of one utterance with the estimates of every system; all sounds ``[T]``."""

    item: str
    """The utterance."""
    source: int
    """Index of the reference that is the target."""
    mixture: Tensor
    reference: Tensor
    estimates: Mapping[str, Tensor]
    """Estimates by system."""
    sample_rate: int
    """Sample rate in Hz."""


class Clips:
    """The utterances that all evaluations share.

    Args:
        evaluations: Evaluations of different systems on the same data.

    Raises:
        ConfigError: If they have no utterance in common, or a name twice.
    """

    def __init__(self, evaluations: Sequence[SavedEvaluation]) -> None:
        self._evaluations = {each.evaluation.system: each for each in evaluations}
        if len(self._evaluations) < len(evaluations):
            raise ConfigError(
                "listen: two evaluations are of one name; evaluate under different names of models."
            )
        tables = [
            {(row.identifier, row.content) for row in each.evaluation.rows if not row.failure}
            for each in evaluations
        ]
        shared = set.intersection(*tables)
        self.items = [identifier for identifier, _ in sorted(shared)]
        self.num_left_out = max(len(each.evaluation.rows) for each in evaluations) - len(self.items)
        """Utterances that are missing or failed in one of the evaluations."""
        if not self.items:
            raise ConfigError("listen: the evaluations have no utterance in common; use the same data.")
        self._known: dict[str, list[UtteranceSounds]] = {}

    @property
    def systems(self) -> list[str]:
        """Names of the systems."""
        return list(self._evaluations)

    def draw(self, seed: int, chosen: Sequence[str] = ()) -> Iterator[Clip]:
        """Clips in random order: one target of every utterance, then the next, until all are used.

        Args:
            seed: Seed of the order.
            chosen: Only these utterances; the first clip is from another one, if there is one.

        Raises:
            ConfigError: If a chosen utterance is not there.
        """
        for item in chosen:
            if item not in self.items:
                raise ConfigError(f"--item '{item}': not among them." + suggest(item, self.items, "Known"))
        drawn = random.Random(f"clips/{seed}")  # noqa: S311 - a reproducible order, no secret
        order = drawn.sample(self.items, len(self.items))
        others = [item for item in order if item not in chosen]
        first, *rest = [*others[:1], *chosen] if chosen else order
        yield self._clip(first, 0)
        rest = rest or [first]
        num_sources = len(self._sounds(first)[0].references)
        targets = {item: drawn.sample(range(num_sources), num_sources) for item in rest}
        for turn in range(num_sources):
            for item in rest:
                if (item, targets[item][turn]) != (first, 0):
                    yield self._clip(item, targets[item][turn])

    def _sounds(self, item: str) -> list[UtteranceSounds]:
        if item not in self._known:
            self._known[item] = [each.sounds(item) for each in self._evaluations.values()]
        return self._known[item]

    def _clip(self, item: str, source: int) -> Clip:
        sounds = self._sounds(item)
        return Clip(
            item=item,
            source=source,
            mixture=torch.from_numpy(sounds[0].mixture),
            reference=torch.from_numpy(sounds[0].references[source]),
            estimates={
                name: torch.from_numpy(each.estimates[source])
                for name, each in zip(self._evaluations, sounds, strict=True)
            },
            sample_rate=sounds[0].sample_rate,
        )


class Anchor(StrEnum):
    """Known degradations of the reference or of the mixture."""

    LOW = "low"
    """The reference below 3.5 kHz, or below a quarter of Nyquist if that is less: 1 kHz of 8 kHz sound."""
    MID = "mid"
    """The reference below 7 kHz, or below half of Nyquist if that is less: 2 kHz of 8 kHz sound."""
    HALFWAY = "halfway"
    """The mixture with everything but the target 10 dB quieter."""
    MIXTURE = "mixture"
    """The input of the systems."""

    def make(self, clip: Clip) -> Tensor:
        """The anchor of a clip, ``[T]``."""
        if self is Anchor.MIXTURE:
            return clip.mixture
        if self is Anchor.HALFWAY:
            return clip.reference + 10 ** (-_HALFWAY_DB / 20) * (clip.mixture - clip.reference)
        return low_pass(clip.reference, self.cutoff_hz(clip.sample_rate), clip.sample_rate)

    def cutoff_hz(self, sample_rate: int) -> float:
        """Cutoff of the low-pass anchors in Hz."""
        return min(_STANDARD_CUTOFFS_HZ[self], _NYQUIST_SHARES[self] * sample_rate / 2)


def low_pass(samples: Tensor, cutoff_hz: float, sample_rate: int) -> Tensor:
    """Low-pass a sound with a Kaiser-windowed sinc, without delay or change of length.

    Args:
        samples: ``[T]``.
        cutoff_hz: End of the pass band; the stop band of 60 dB begins 13 % higher.
        sample_rate: Sample rate in Hz.
    """
    width = _TRANSITION * cutoff_hz / sample_rate
    half = math.ceil((_STOP_DB - 8) / (2.285 * 2 * math.pi * width) / 2)
    window = torch.kaiser_window(
        2 * half + 1, periodic=False, beta=0.1102 * (_STOP_DB - 8.7), dtype=torch.float64
    )
    middle = 2 * (cutoff_hz / sample_rate + width / 2)
    taps = middle * torch.sinc(middle * torch.arange(-half, half + 1, dtype=torch.float64)) * window
    padded = samples.double().reshape(1, 1, -1)
    return torch.nn.functional.conv1d(padded, taps.reshape(1, 1, -1), padding=half).reshape(-1).float()


def cut(clip: Clip, max_seconds: float) -> Clip:
    """The part of a long clip in which the target is strongest; short clips stay as they are."""
    length = round(max_seconds * clip.sample_rate)
    if len(clip.reference) <= length:
        return clip
    energy = torch.nn.functional.pad(clip.reference.double().square().cumsum(0), (1, 0))
    start = int((energy[length:] - energy[:-length]).argmax())
    part = slice(start, start + length)
    estimates = {name: samples[part] for name, samples in clip.estimates.items()}
    return Clip(clip.item, clip.source, clip.mixture[part], clip.reference[part], estimates, clip.sample_rate)


def level(sounds: Mapping[str, Tensor], sample_rate: int) -> dict[str, Pcm]:
    """Sounds at one loudness, ``[T]`` as 16-bit integers, with short fades at their ends.

    The loudness is -23 LUFS, or as much less, for all alike, as keeps every peak below -1 dB of full scale.
    Sounds quieter than -70 LUFS have no measurable loudness and are not changed.

    Args:
        sounds: Sounds by name; finite, of equal length.
        sample_rate: Sample rate in Hz.
    """
    matched = {name: samples * _gain(samples, sample_rate) for name, samples in sounds.items()}
    peak = max(float(samples.abs().max()) for samples in matched.values())
    common = min(1.0, _PEAK / peak) if peak else 1.0
    length = len(next(iter(sounds.values())))
    fade = _fade(length, sample_rate) * common * 2**15
    return {name: (samples * fade).round().to(torch.int16).numpy() for name, samples in matched.items()}


def _gain(samples: Tensor, sample_rate: int) -> float:
    loudness = integrated_loudness(samples, sample_rate)
    return 10 ** ((LOUDNESS_LUFS - loudness) / 20) if math.isfinite(loudness) else 1.0


def _fade(length: int, sample_rate: int) -> Tensor:
    size = min(round(_FADE_SECONDS * sample_rate), length // 2)
    ramp = torch.linspace(0, 1, size)
    return torch.cat([ramp, torch.ones(length - 2 * size), ramp.flip(0)])
