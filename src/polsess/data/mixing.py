"""Steps shared by all mixtures that are made on the fly: speeds, offsets, levels.

Shapes: S signals, T samples.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import model_validator

from polsess.audio import Samples, resample
from polsess.schema import Schema

Range = tuple[float, float]

_QUIETEST = 1e-4
"""RMS below which a signal counts as a pause, which is not raised to the level of speech."""
_PEAK = 0.99
_FADE_SECONDS = 0.01
_NUM_BANDS = 7
_FORMANT_FRAME_SECONDS, _ENVELOPE_SECONDS = 0.032, 0.002
_LARGEST_MOVE = 3.0
"""Natural logarithm of the largest gain (26 dB) where formants are moved."""


def check_range(name: str, values: Range, low: float, high: float) -> None:
    """Refuse a range whose bounds do not rise or lie outside ``low`` to ``high``.

    Raises:
        ValueError: Naming the field.
    """
    if not low <= values[0] <= values[1] <= high:
        raise ValueError(
            f"{name}: expected two rising numbers from {low:g} to {high:g}, got {values[0]:g}, {values[1]:g}."
        )


class Remix(Schema):
    """New conversations: the first speaker stays, the others come from other mixtures of the split."""

    ssr_range_db: Range = (-5.0, 5.0)
    """Level of the first speaker over each other one in the segment, uniform in dB."""

    @model_validator(mode="after")
    def _check(self) -> Remix:
        check_range("ssr_range_db", self.ssr_range_db, -60, 60)
        return self


def draw_speed(random: np.random.Generator, speeds: Range) -> int:
    """Draw a playing speed in thousandths; an empty range draws nothing."""
    return round(1000 * (random.uniform(*speeds) if speeds[0] < speeds[1] else speeds[0]))


def change_speed(samples: Samples, speed: int, from_rate: int, to_rate: int) -> Samples:
    """Change the speed and pitch of sounds, and their rate.

    Args:
        samples: ``[..., T]``.
        speed: Playing speed in thousandths.
        from_rate: Rate of the samples in Hz.
        to_rate: Wanted rate in Hz.
    """
    if speed == 1000 and from_rate == to_rate:
        return samples
    changed: Samples = resample(torch.from_numpy(samples), from_rate * speed, to_rate * 1000).numpy()
    return changed


def colour(sound: Samples, deviation_db: float, random: np.random.Generator) -> Samples:
    """Apply a smooth random gain over frequency, as another microphone or vocal tract would.

    Args:
        sound: ``[T]``.
        deviation_db: Standard deviation of the gains of the bands; 0 draws nothing.
        random: Source of random numbers.
    """
    if deviation_db == 0.0:
        return sound
    length = 1 << (len(sound) - 1).bit_length()  # a transform of a prime length is slow
    spectrum = np.fft.rfft(sound, length)
    gains_db = random.normal(0.0, deviation_db, _NUM_BANDS)
    bands = np.linspace(0.0, 1.0, len(spectrum)) ** 0.6 * (_NUM_BANDS - 1)  # narrower below, wider above
    curve = 10 ** (np.interp(bands, np.arange(_NUM_BANDS), gains_db) / 20)
    coloured: Samples = np.fft.irfft(spectrum * curve, length)[: len(sound)].astype(np.float32)
    return coloured


def move_formants(sound: Samples, factor: float, sample_rate: int) -> Samples:
    """Stretch the spectral envelope over frequency and keep the pitch, as another vocal tract would.

    After Jaitly and Hinton (2013), "Vocal tract length perturbation (VTLP) improves speech recognition".

    Args:
        sound: ``[T]``.
        factor: That of the frequencies of the formants; above 1 those of a shorter tract.
        sample_rate: Hz.
    """
    if factor == 1.0:
        return sound
    hop = 1 << round(math.log2(_FORMANT_FRAME_SECONDS / 2 * sample_rate))
    window = np.sin(np.pi * (np.arange(2 * hop) + 0.5) / (2 * hop)).astype(np.float32)
    padded = np.pad(sound, (hop, hop + -len(sound) % hop))
    frames = np.lib.stride_tricks.sliding_window_view(padded, 2 * hop)[::hop] * window
    spectrum = np.fft.rfft(frames)
    cepstrum = np.fft.irfft(np.log(np.abs(spectrum) + 1e-5))
    longest = round(_ENVELOPE_SECONDS * sample_rate)  # of the cepstrum: what is longer is pitch
    cepstrum[:, longest : -longest + 1] = 0.0
    envelope = np.fft.rfft(cepstrum).real  # [frames, bins], logarithmic
    places = np.minimum(np.arange(hop + 1) / factor, hop)
    below = np.minimum(places.astype(int), hop - 1)
    weight = (places - below).astype(np.float32)  # so that all that follows is in single precision
    moved = envelope[:, below] * (1 - weight) + envelope[:, below + 1] * weight
    gains = np.exp(np.clip(moved - envelope, -_LARGEST_MOVE, _LARGEST_MOVE))
    halves = (np.fft.irfft(spectrum * gains) * window).reshape(len(frames), 2, hop)
    joined = halves[1:, 0] + halves[:-1, 1]  # squared sines half a frame apart add up to one
    return joined.reshape(-1)[: len(sound)].astype(np.float32)


def place(sound: Samples, num_samples: int, random: np.random.Generator) -> Samples:
    """Cut a random window of a long sound, or put a short one at a random place, ``[num_samples]``."""
    spare = len(sound) - num_samples
    if spare >= 0:
        start = random.integers(spare + 1)
        return sound[start : start + num_samples]
    before = random.integers(-spare + 1)
    return np.pad(sound, (before, -spare - before))


def faded(sound: Samples, sample_rate: int) -> Samples:
    """A copy of a sound ``[T]`` that begins and ends gently."""
    copy = sound.copy()
    fade = min(round(_FADE_SECONDS * sample_rate), len(copy) // 2)
    ramp = np.linspace(0.0, 1.0, fade, dtype=np.float32)
    copy[:fade] *= ramp
    copy[len(copy) - fade :] *= ramp[::-1]
    return copy


def rms(samples: Samples) -> NDArray[np.float64]:
    """Root mean square over time, ``[..., 1]``."""
    power: NDArray[np.float64] = np.square(samples, dtype=np.float64).mean(-1, keepdims=True)
    return np.sqrt(power)


def set_levels(signals: Samples, levels_db: list[float]) -> Samples:
    """Scale every signal to its RMS level relative to the first, ``[S, T]``."""
    loudness = np.maximum(rms(signals), _QUIETEST)
    factors = loudness[0] / loudness * 10 ** (np.array(levels_db)[:, None] / 20)
    factors[0] = 10 ** (levels_db[0] / 20)
    leveled: Samples = (signals * factors).astype(np.float32)
    return leveled


def peak_factor(mixture: Samples) -> float:
    """Gain that keeps the mixture below full scale; 1 if it already is."""
    return min(1.0, _PEAK / max(float(np.abs(mixture).max()), _PEAK))
