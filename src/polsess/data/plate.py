"""Plate reverberation in the frequency domain.

J. Dattorro, Effect Design Part 1: Reverberator and Other Filters, J. Audio Eng. Soc. 45 (9), 1997. Four
all-passes diffuse the input; two branches that feed each other form the tank, each an all-pass, a delay, a
low-pass, a second all-pass and a second delay; fourteen taps make the output. Without the slow modulation of
two delays, left out here, all of it is linear and time-invariant: one transfer function and no loop.
A larger decay is a shorter tail, as in the generator's CSV.

Shapes: T samples, F frequencies.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from polsess.audio import Samples

Spectrum = NDArray[np.complex128]

_RATE = 29_761
"""Rate of the delays in Hz."""
_INPUT_DELAYS = (142, 107, 379, 277)
_BRANCH_A = (672, 4453, 1800, 3720)
_BRANCH_B = (908, 4217, 2656, 3163)
_LEFT_TAPS = {"b1": (266, 2974), "-b2": (1913,), "b3": (1996,), "-a1": (1990,), "-a2": (187,), "-a3": (1066,)}
_RIGHT_TAPS = {"a1": (353, 3627), "-a2": (1228,), "a3": (2673,), "-b1": (2111,), "-b2": (335,), "-b3": (121,)}
_OUTPUT_GAIN = 0.6
_LOOP_SECONDS = sum(_BRANCH_A + _BRANCH_B) / _RATE
_SILENT = 1e-5
"""-100 dB, the level of the tail where the circular convolution wraps round."""


@dataclass(frozen=True)
class Plate:
    """The room of one conversation."""

    diffusion: float
    """Density of the first echoes, 0 to below 1."""
    decay: float
    """Decay of the tail, above 0 to 1; a larger one is a shorter tail."""
    damping: float
    """Additional decay of high frequencies, 0 to below 1."""
    high_cut_hz: float
    """Cutoff of a low-pass at the input; at half the sample rate or above there is none."""


@dataclass(frozen=True)
class Reverb:
    """A plate at a sample rate, for sounds of one length."""

    transfer: Spectrum
    """``[F]``, without pre-delay."""
    size: int
    """Length of the transform in samples."""

    def apply(self, dry: Samples, pre_delay: int) -> Samples:
        """The wet sound alone, cut to the length of the dry one.

        Args:
            dry: ``[T]``.
            pre_delay: Samples before the first echo.
        """
        wet = np.fft.irfft(np.fft.rfft(dry, self.size) * self.transfer, self.size)
        delayed = np.zeros(len(dry), np.float32)
        delayed[pre_delay:] = wet[: max(0, len(dry) - pre_delay)]
        return delayed


def create_reverb(plate: Plate, sample_rate: int, num_samples: int) -> Reverb:
    """A plate for sounds of ``num_samples`` at ``sample_rate`` Hz."""
    gain = 1.0 - plate.decay
    loops = np.log(_SILENT) / np.log(np.clip(gain**4, _SILENT, 0.99))  # a tour of the tank passes four gains
    tail = (1.0 + loops) * _LOOP_SECONDS * sample_rate
    size = 2 ** int(np.ceil(np.log2(num_samples + tail)))
    return Reverb(_transfer(plate, sample_rate, size), size)


def _transfer(plate: Plate, rate: int, size: int) -> Spectrum:
    """The mean of the two outputs, ``[F]``."""
    gain, second = 1.0 - plate.decay, 0.5 * plate.diffusion
    z = _delay(size, 1)
    high_cut = np.exp(-2 * np.pi * plate.high_cut_hz / rate) if plate.high_cut_hz < rate / 2 else 0.0
    entering = _low_pass(z, high_cut)
    for delay in _INPUT_DELAYS:
        entering = entering * _all_pass(plate.diffusion, _tap(delay, rate, size))[0]
    damping = gain * _low_pass(z, plate.damping)
    nodes: dict[str, Spectrum] = {}
    branches: dict[str, Spectrum] = {}
    for name, (first, long, middle, last) in (("a", _BRANCH_A), ("b", _BRANCH_B)):
        after_first = _all_pass(-plate.diffusion, _tap(first, rate, size))[0]
        before_middle = after_first * _tap(long, rate, size) * damping
        through, inside = _all_pass(second, _tap(middle, rate, size))
        after_middle = before_middle * through
        nodes |= {f"{name}1": after_first, f"{name}2": before_middle * inside, f"{name}3": after_middle}
        branches[name] = after_middle * _tap(last, rate, size) * gain
    entering = entering / (1.0 - branches["a"] * branches["b"])
    into = {"a": entering * (1.0 + branches["b"]), "b": entering * (1.0 + branches["a"])}
    out = np.zeros_like(z)
    for taps in (_LEFT_TAPS, _RIGHT_TAPS):
        for name, delays in taps.items():
            node, sign = name.removeprefix("-"), -1.0 if name[0] == "-" else 1.0
            out += sign * into[node[0]] * nodes[node] * sum(_tap(delay, rate, size) for delay in delays)
    return 0.5 * _OUTPUT_GAIN * out


def _low_pass(z: Spectrum, pole: float) -> Spectrum:
    return (1.0 - pole) / (1.0 - pole * z)


def _all_pass(coefficient: float, delayed: Spectrum) -> tuple[Spectrum, Spectrum]:
    """From the input of a lattice all-pass to its output and to the head of its delay line."""
    inside = 1.0 / (1.0 + coefficient * delayed)
    return (coefficient + delayed) * inside, inside


def _tap(delay: int, rate: int, size: int) -> Spectrum:
    return _delay(size, round(delay * rate / _RATE))


@lru_cache(maxsize=64)
def _delay(size: int, samples: int) -> Spectrum:
    """``samples`` of delay at each frequency of a real transform, ``[F]``."""
    turns = np.arange(size // 2 + 1) * samples % size  # whole turns would cost precision
    return np.exp(-2j * np.pi / size * turns)
