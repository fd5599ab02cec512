"""Integrated loudness of one channel after ITU-R BS.1770-5: K weighting, blocks of 400 ms, two gates.

The standard gives the weighting as two filters at 48 kHz. Their frequency response is applied here at the
frequencies that a sound has, so that 8 kHz sounds are weighted exactly as their copies at 48 kHz would be;
filters designed anew at 8 kHz would bend towards 4 kHz.

Shapes: T samples, J blocks.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from polsess.audio.samples import AnySamples, as_samples

Power = NDArray[np.float64]

_DESIGN_RATE = 48_000
_SHELF = (
    (1.53512485958697, -2.69169618940638, 1.19839281085285),
    (1.0, -1.69065929318241, 0.73248077421585),
)
_HIGH_PASS = ((1.0, -2.0, 1.0), (1.0, -1.99004745483398, 0.99007225036621))
_OFFSET_DB = -0.691  # a full-scale sine of 997 Hz in one channel is at -3.01 LUFS
_BLOCK_SECONDS = 0.4
_HOP_SECONDS = 0.1
_SILENCE_LUFS = -70.0
_GATE_DB = 10.0  # blocks this much below the mean of the others are pauses
_TAIL_SECONDS = 0.5  # the filters ring for this long; without it the end would wrap into the beginning


def integrated_loudness(samples: AnySamples, sample_rate: int) -> float:
    """Integrated loudness of a sound, without its pauses.

    Args:
        samples: ``[T]``, finite. Sounds below 400 ms are one block.
        sample_rate: Rate in Hz.

    Returns:
        Loudness in LUFS; minus infinity where no block is above -70 LUFS.
    """
    weighted = k_weighted(as_samples(samples), sample_rate)
    block = min(round(_BLOCK_SECONDS * sample_rate), len(weighted))
    hop = max(1, round(_HOP_SECONDS * sample_rate))
    power = np.square(np.lib.stride_tricks.sliding_window_view(weighted, block)[::hop]).mean(-1)  # [J]
    heard = power[_lufs(power) > _SILENCE_LUFS]
    if not len(heard):
        return -math.inf
    loud = heard[_lufs(heard) > _lufs(heard.mean()) - _GATE_DB]
    return float(_lufs(loud.mean()))


def k_weighted(samples: NDArray[np.floating], sample_rate: int) -> Power:
    """Apply the weighting filters, ``[T]`` in float64."""
    size = len(samples) + round(_TAIL_SECONDS * sample_rate)
    frequencies = np.minimum(np.fft.rfftfreq(size, 1 / sample_rate), _DESIGN_RATE / 2)
    delay = np.exp(-2j * math.pi * frequencies / _DESIGN_RATE)
    response = _response(_SHELF, delay) * _response(_HIGH_PASS, delay)
    spectrum = np.fft.rfft(samples.astype(np.float64), size)
    weighted: Power = np.fft.irfft(spectrum * response, size)[: len(samples)]
    return weighted


def _response(
    section: tuple[tuple[float, ...], tuple[float, ...]], delay: NDArray[np.complex128]
) -> NDArray[np.complex128]:
    over, under = (sum(value * delay**power for power, value in enumerate(part)) for part in section)
    return np.asarray(over / under)


def _lufs(power: Power) -> Power:
    with np.errstate(divide="ignore"):
        return np.asarray(_OFFSET_DB + 10 * np.log10(power))
