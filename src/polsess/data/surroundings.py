"""Noise and rooms for all mixtures that are made on the fly.

Shapes: S speakers, T samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from polsess.audio import Samples, read_audio, to_mono
from polsess.data.base import Split
from polsess.data.mixing import Range, change_speed, check_range, place, rms
from polsess.data.rooms import MeasuredRooms, PlateRooms, list_rooms
from polsess.data.sources import SourceFile, list_sources, split_sources
from polsess.schema import Schema

_SILENT = 1e-5
_DRAWS = 100
"""Draws until a piece of noise is found that is not silent."""


class NoiseConfig(Schema):
    """Recordings of noise and their level."""

    source: Path
    """A folder (``<label>/<file>`` or ``<split>/<label>/<file>``) or a CSV with ``path`` and perhaps
    ``label`` and ``split``. A hash assigns files without a split to one, so that none is in two splits."""
    snr_range_db: Range = (0.0, 15.0)
    """Level of all speech over this noise, uniform in dB."""
    probability: float = Field(default=1.0, gt=0.0, le=1.0)
    """Share of the mixtures with this noise."""
    repeat: bool = True
    """Whether a recording that is too short is repeated; else it is placed once, at a random offset."""

    @model_validator(mode="after")
    def _check(self) -> NoiseConfig:
        check_range("snr_range_db", self.snr_range_db, -60, 100)
        return self


class RoomConfig(Schema):
    """Rooms of the speakers; all speakers of a mixture are in one room, at different places."""

    source: Path | None = None
    """Folder or CSV of impulse responses by room; null simulates rooms by a plate."""
    probability: float = Field(default=1.0, gt=0.0, le=1.0)
    """Share of the mixtures with reverberation."""
    target: Literal["dry", "reverberant"] = "dry"
    """Whether references hold the direct sound alone, or the reverberation too."""


@dataclass(frozen=True)
class Surrounded:
    """Voices in their surroundings."""

    voices: Samples
    """Each speaker with reverberation, ``[S, T]``."""
    references: Samples
    """References, ``[S, T]``."""
    noise: Samples
    """``[T]``."""
    metadata: dict[str, str | float] = field(default_factory=dict)


class Surroundings:
    """The noise and the rooms of one split.

    Args:
        noise: Noises, summed.
        rooms: The rooms; None for no reverberation.
        split: Split whose recordings and rooms are used.
        sample_rate: Rate of the voices in Hz.

    Raises:
        FileNotFoundError: If a source is missing.
        ValueError: If there is nothing in it for the split.
    """

    def __init__(
        self, noise: Sequence[NoiseConfig], rooms: RoomConfig | None, split: Split, sample_rate: int
    ) -> None:
        self.noise, self.rooms, self.sample_rate = noise, rooms, sample_rate
        self._noises = [_list_noise(each.source, split) for each in noise]
        self._rooms = list_rooms(rooms.source, split) if rooms and rooms.source else PlateRooms()

    @property
    def always_there(self) -> bool:
        """Whether every mixture differs from the sum of its references."""
        dereverberates = self.rooms is not None and self.rooms.target == "dry" and self.rooms.probability == 1
        return dereverberates or any(each.probability == 1 for each in self.noise)

    def inventory(self) -> Iterator[tuple[str, Path | None]]:
        """Names and files of the noises and of the measured rooms."""
        for noises in self._noises:
            for noise in noises:
                yield f"{noise.label} {noise.path.name}", noise.path
        if isinstance(self._rooms, MeasuredRooms):
            for number, room in enumerate(self._rooms.rooms):
                for path in room:
                    yield f"{number} {path.name}", path

    def surround(self, random: np.random.Generator, voices: Samples) -> Surrounded:
        """Draw a room and noise for dry voices ``[S, T]``; without rooms and noise nothing is drawn."""
        heard, references = voices, voices
        metadata: dict[str, str | float] = {}
        if self.rooms is not None:
            within = random.random() < self.rooms.probability
            metadata["reverberation"] = "yes" if within else "no"
            if within:
                added = self._rooms.reverberate(random, list(voices), self.sample_rate)
                heard = voices + np.stack(added)
                references = heard if self.rooms.target == "reverberant" else voices
        total = np.zeros(voices.shape[-1], np.float32)
        speech = rms(heard.sum(0)).item()
        drawn: list[str] = []
        for config, sources in zip(self.noise, self._noises, strict=True):
            if random.random() >= config.probability:
                continue
            sound, label = self._draw_noise(random, config, sources, len(total))
            total += sound * np.float32(speech * 10 ** (-random.uniform(*config.snr_range_db) / 20))
            drawn.append(label)
        if self.noise:
            metadata["noise"] = "+".join(drawn) or "none"
        if drawn and speech:
            metadata["snr_db"] = round(20 * float(np.log10(speech / rms(total).item())), 2)
        return Surrounded(heard, references, total, metadata)

    def _draw_noise(
        self,
        random: np.random.Generator,
        config: NoiseConfig,
        sources: list[SourceFile],
        num_samples: int,
    ) -> tuple[Samples, str]:
        """A piece of noise ``[T]`` with an RMS of 1 where it is not silent, and its label."""
        for _ in range(_DRAWS):
            source = sources[int(random.integers(len(sources)))]
            wanted = -(-num_samples * source.sample_rate // self.sample_rate)
            start = int(random.integers(max(0, source.num_samples - wanted) + 1))
            samples, rate = read_audio(source.path, start, min(wanted, source.num_samples))
            mono = to_mono(samples, source.path).numpy()
            sound = change_speed(mono, 1000, rate, self.sample_rate)[:num_samples]
            level = rms(sound).item()
            if level > _SILENT:
                fitted = np.resize(sound, num_samples) if config.repeat else place(sound, num_samples, random)
                return fitted / np.float32(level), source.label
        raise ValueError(f"{config.source}: {_DRAWS} pieces of its sounds in a row were silent.")


def _list_noise(place: Path, split: Split) -> list[SourceFile]:
    return split_sources(list_sources(place, labelled=False), split, by_label=False, strict=True)
