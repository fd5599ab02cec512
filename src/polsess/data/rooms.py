"""Room reverberation: measured or simulated impulse responses, or the plate.

Shapes: T samples.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from polsess.audio import Samples, read_audio, resample
from polsess.data.base import Split
from polsess.data.plate import Plate, create_reverb
from polsess.data.sources import SourceFile, list_sources, split_sources

_DIRECT_SECONDS = 0.0025
"""Length of the direct sound after the first peak."""
_POSITION = re.compile(r"[_-](?:src|source|spk|speaker|pos|position|mic|s|p)[_-]?\d+$", re.IGNORECASE)


class Rooms(ABC):
    """Rooms to draw from."""

    @abstractmethod
    def reverberate(self, random: np.random.Generator, dry: Sequence[Samples], rate: int) -> list[Samples]:
        """Reverberation of sounds at different places in one room, each as long as its sound.

        The direct sound is not part of it: dry sound plus reverberation is what a microphone records.

        Args:
            random: Source of random numbers for the room and the places.
            dry: Sounds ``[T]``.
            rate: Rate of the sounds in Hz.
        """


@dataclass(frozen=True)
class MeasuredRooms(Rooms):
    """Measured rooms, each with its impulse responses."""

    rooms: tuple[tuple[Path, ...], ...]

    def reverberate(self, random: np.random.Generator, dry: Sequence[Samples], rate: int) -> list[Samples]:
        chosen = self._choose(random, len(dry))
        return [_convolve(each, _tail(path, rate)) for each, path in zip(dry, chosen, strict=True)]

    def _choose(self, random: np.random.Generator, count: int) -> list[Path]:
        """Responses of one room, all different if it has enough; any response where no room has two."""
        most = min(count, max(len(room) for room in self.rooms))
        fitting = [room for room in self.rooms if len(room) >= most]
        if most == 1:
            fitting = [tuple(path for room in self.rooms for path in room)]
        room = fitting[int(random.integers(len(fitting)))]
        order = random.permutation(len(room))
        return [room[order[n % len(room)]] for n in range(count)]


@dataclass(frozen=True)
class PlateRooms(Rooms):
    """The generator's plate with drawn parameters, from small rooms to halls."""

    def reverberate(self, random: np.random.Generator, dry: Sequence[Samples], rate: int) -> list[Samples]:
        """Sounds differ in the delay of their first echo."""
        plate = Plate(
            diffusion=random.uniform(0.4, 0.8),
            decay=random.uniform(0.5, 0.95),
            damping=random.uniform(0.1, 0.9),
            high_cut_hz=rate / 2,
        )
        delays = random.uniform(0.001, 0.05, len(dry))
        reverb = create_reverb(plate, rate, len(dry[0]))
        return [reverb.apply(each, round(delay * rate)) for each, delay in zip(dry, delays, strict=True)]


def list_rooms(place: Path, split: Split | None = None, *, deal: bool = True) -> MeasuredRooms:
    """List impulse responses below a folder or in a CSV, by room.

    Responses in one sub-folder are of one room, and so are files called ``hall_src1``, ``hall_src2``; a CSV
    has the columns ``path`` and ``room``, and perhaps ``split``.

    Args:
        place: The folder or the CSV.
        split: Split whose rooms are wanted; None for all.
        deal: Whether a hash assigns rooms without a split to one; else they are in every split.

    Raises:
        FileNotFoundError: If there is no such place.
        ValueError: If there is no response, or none for the split.
    """
    found = [_with_room(one) for one in list_sources(place)]
    if split is not None and not deal:
        found = [replace(one, split=split) if one.split is None else one for one in found]
    if split is not None:
        found = split_sources(found, split, by_label=True, strict=True)
    rooms: dict[str, list[Path]] = {}
    for one in found:
        rooms.setdefault(one.label, []).append(one.path)
    return MeasuredRooms(tuple(tuple(paths) for _, paths in sorted(rooms.items())))


def _with_room(source: SourceFile) -> SourceFile:
    by_name = source.label == source.path.stem
    return replace(source, label=_POSITION.sub("", source.label)) if by_name else source


@lru_cache(maxsize=256)
def _tail(path: Path, rate: int) -> Samples:
    """An impulse response from its peak on, scaled to a peak of 1, without the direct sound."""
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
