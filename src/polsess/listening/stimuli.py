"""The sounds of a trial: cut to length, anchors made, all equally loud, none clipped.

Shapes: T samples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import StrEnum

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polsess.audio import integrated_loudness
from polsess.listening.clips import Clip

Pcm = NDArray[np.int16]

LOUDNESS_LUFS = -23.0
_PEAK = 10 ** (-1 / 20)
_FADE_SECONDS = 0.01
_HALFWAY_DB = 10.0
_STANDARD_CUTOFFS_HZ = {"low": 3500.0, "mid": 7000.0}
_NYQUIST_SHARES = {"low": 0.25, "mid": 0.5}
_TRANSITION = 0.13  # of the cutoff; BS.1534-3 asks for 25 dB at 1.14 times the cutoff and 50 dB at 1.29 times
_STOP_DB = 60.0


class Anchor(StrEnum):
    """Known degradations of the reference, or of what the systems were given."""

    LOW = "low"
    """The reference below 3.5 kHz, or below a quarter of Nyquist if that is less: 1 kHz of 8 kHz sound."""
    MID = "mid"
    """The reference below 7 kHz, or below half of Nyquist if that is less: 2 kHz of 8 kHz sound."""
    HALFWAY = "halfway"
    """The mixture with everything but the target 10 dB quieter."""
    MIXTURE = "mixture"
    """What the systems were given."""

    def make(self, clip: Clip) -> Tensor:
        """The anchor of a clip, ``[T]``."""
        if self is Anchor.MIXTURE:
            return clip.mixture
        if self is Anchor.HALFWAY:
            return clip.reference + 10 ** (-_HALFWAY_DB / 20) * (clip.mixture - clip.reference)
        return low_pass(clip.reference, self.cutoff_hz(clip.sample_rate), clip.sample_rate)

    def cutoff_hz(self, sample_rate: int) -> float:
        """Where the low-pass anchors end."""
        return min(_STANDARD_CUTOFFS_HZ[self], _NYQUIST_SHARES[self] * sample_rate / 2)


def low_pass(samples: Tensor, cutoff_hz: float, sample_rate: int) -> Tensor:
    """A sound without what is above a frequency, neither delayed nor longer (a Kaiser-windowed sinc).

    Args:
        samples: ``[T]``.
        cutoff_hz: End of the pass band; the stop band of 60 dB begins 13 % higher.
        sample_rate: In Hz.
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
    What is quieter than -70 LUFS has no loudness and stays as it is.

    Args:
        sounds: By name; finite, of equal length.
        sample_rate: In Hz.
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
