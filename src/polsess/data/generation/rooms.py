"""Measured or simulated room impulse responses instead of the plate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from polsess.audio import AUDIO_SUFFIXES, read_audio, resample

Samples = NDArray[np.float32]
_DIRECT_SECONDS = 0.0025
"""What arrives this soon after the first peak is the direct sound."""


@dataclass(frozen=True)
class MeasuredRooms:
    """Impulse responses, each for one voice."""

    paths: tuple[Path, ...]

    def reverberate(self, random: np.random.Generator, dry: Sequence[Samples], rate: int) -> list[Samples]:
        """What a room adds to each sound, as long as the sound; the direct sound stays where it is.

        Args:
            random: Chooses a response for each sound.
            dry: Sounds ``[T]``.
            rate: Of the sounds in Hz.
        """
        chosen = [self.paths[int(random.integers(len(self.paths)))] for _ in dry]
        return [_convolve(each, _tail(path, rate)) for each, path in zip(dry, chosen, strict=True)]


def list_rooms(folder: Path) -> MeasuredRooms:
    """All impulse responses below a folder.

    Raises:
        ValueError: If there is none.
    """
    paths = tuple(sorted(path for path in folder.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES))
    if not paths:
        raise ValueError(f"{folder}: expected sound files with room impulse responses, found none.")
    return MeasuredRooms(paths)


def _tail(path: Path, rate: int) -> Samples:
    """A response from its peak on, the peak being 1, without the direct sound."""
    samples, file_rate = read_audio(path)
    response: Samples = resample(samples[0], file_rate, rate).numpy()
    peak = int(np.abs(response).argmax())
    if response[peak] == 0:
        raise ValueError(f"{path}: is silent; expected a room impulse response.")
    tail = response[peak:] / response[peak]
    tail[: round(_DIRECT_SECONDS * rate) + 1] = 0.0
    return tail


def _convolve(dry: Samples, response: Samples) -> Samples:
    size = 2 ** int(np.ceil(np.log2(len(dry) + len(response))))
    wet = np.fft.irfft(np.fft.rfft(dry, size) * np.fft.rfft(response, size), size)
    return wet[: len(dry)].astype(np.float32)
