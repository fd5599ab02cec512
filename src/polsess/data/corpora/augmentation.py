"""Stored mixtures recomposed while training: other speakers, levels, speeds, noise and rooms.

Shapes: S speakers, T samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import Field, model_validator

from polsess.audio import Samples, read_audio
from polsess.data.base import Split
from polsess.data.corpora.stored_mixture import Form, StoredMixture
from polsess.data.mixing import (
    Range,
    Remix,
    change_speed,
    check_range,
    draw_speed,
    peak_factor,
    place,
    set_levels,
)
from polsess.data.surroundings import NoiseConfig, RoomConfig, Surroundings
from polsess.schema import Schema

_CASTING_DRAWS = 100
"""Draws until another speaker is found; after that the mixture's own speaker stays."""


class AugmentationConfig(Schema):
    """Changes while training; validation and test are never changed."""

    remix: Remix | None = None
    """New conversations; null keeps the speakers of each mixture."""
    speed_range: Range = (1.0, 1.0)
    """Playing speed of every file, uniform; pitch changes with it."""
    gain_range_db: Range = (0.0, 0.0)
    """Gain of the mixture, uniform in dB."""
    background_gain_db: Range | None = (0.0, 0.0)
    """Gain of the background (the mixture minus its speakers), uniform in dB; null leaves it out."""
    noise: tuple[NoiseConfig, ...] = Field(default=())
    """Noise that is added."""
    rooms: RoomConfig | None = None
    """Rooms that are added to dry speakers."""

    @model_validator(mode="after")
    def _check(self) -> AugmentationConfig:
        check_range("speed_range", self.speed_range, 0.5, 2.0)
        check_range("gain_range_db", self.gain_range_db, -60, 60)
        if self.background_gain_db is not None:
            check_range("background_gain_db", self.background_gain_db, -60, 60)
        return self


@dataclass(frozen=True)
class Augmented:
    """A new mixture, its references and metadata."""

    mixture: Samples
    """``[T]``."""
    references: Samples
    """``[S, T]``."""
    metadata: dict[str, str | float]


class Augmenter:
    """Makes new mixtures of those of a training split.

    Args:
        config: The changes.
        mixtures: Mixtures of the split.
        forms: Their lengths and rates.
        sample_rate: Wanted rate in Hz.
        segment_seconds: Length of the longest new mixture; None for whole mixtures.

    Raises:
        FileNotFoundError: If noise or rooms are missing.
        ValueError: If none of them is for training.
    """

    def __init__(
        self,
        config: AugmentationConfig,
        mixtures: Sequence[StoredMixture],
        forms: Sequence[Form],
        *,
        sample_rate: int,
        segment_seconds: float | None,
    ) -> None:
        self.config, self.mixtures, self.forms = config, mixtures, forms
        self.sample_rate, self.segment_seconds = sample_rate, segment_seconds
        self.surroundings = Surroundings(config.noise, config.rooms, Split.TRAIN, sample_rate)

    def make(self, random: np.random.Generator, index: int) -> Augmented:
        """Draw a new mixture based on the one at an index."""
        metadata = dict(self.mixtures[index].metadata)
        num_samples = self._num_samples(index)
        voices, background = self._read_own(random, index, num_samples)
        if self.config.remix is not None and len(voices) > 1:
            voices = self._recast(random, index, voices, metadata)
        scene = self.surroundings.surround(random, voices)
        if self.config.background_gain_db is not None:
            background = background * 10 ** (random.uniform(*self.config.background_gain_db) / 20)
        mixture = scene.voices.sum(0) + scene.noise + background
        gain = 10 ** (random.uniform(*self.config.gain_range_db) / 20)
        gain *= peak_factor(gain * mixture)
        mixture, references = ((gain * each).astype(np.float32) for each in (mixture, scene.references))
        return Augmented(mixture, references, metadata | scene.metadata)

    def _num_samples(self, index: int) -> int:
        """T, a length that the mixture reaches at every speed."""
        length, rate = self.forms[index]
        whole = int(length * self.sample_rate / rate / max(1.0, self.config.speed_range[1]))
        if self.segment_seconds is None:
            return whole
        return min(whole, round(self.segment_seconds * self.sample_rate))

    def _read_own(self, random: np.random.Generator, index: int, num_samples: int) -> tuple[Samples, Samples]:
        """The speakers ``[S, T]`` and the background ``[T]`` of one segment of a mixture."""
        one = self.mixtures[index]
        with_background = self.config.background_gain_db is not None
        paths = [*one.sources, one.mixture] if with_background else list(one.sources)
        signals = self._read(random, paths, self.forms[index], num_samples)
        signals = np.pad(signals, ((0, 0), (0, num_samples - signals.shape[1])))  # a sample lost in rounding
        voices = signals[: len(one.sources)]
        background = signals[-1] - voices.sum(0) if with_background else np.zeros(num_samples, np.float32)
        return voices, background

    def _recast(
        self, random: np.random.Generator, index: int, voices: Samples, metadata: dict[str, str | float]
    ) -> Samples:
        """Replace all speakers but the first by those of other mixtures, at drawn levels."""
        names = list(self.mixtures[index].speakers)
        cast, taken = [voices[0]], {index}
        for slot in range(1, len(voices)):
            found = self._find_partner(random, taken, [*names[:slot]])
            if found is None:
                cast.append(voices[slot])
                continue
            other, source = found
            taken.add(other)
            names[slot] = self.mixtures[other].speakers[source]
            path = self.mixtures[other].sources[source]
            voice = self._read(random, [path], self.forms[other], len(voices[0]))[0]
            cast.append(place(voice, len(voices[0]), random))
        assert self.config.remix is not None
        levels = random.uniform(*self.config.remix.ssr_range_db, len(cast) - 1)
        metadata["ssr_db"] = round(float(levels[0]), 2)
        metadata["speakers"] = "-".join(names) if all(names) else "unknown"
        return set_levels(np.stack(cast), [0.0, *(-levels)])

    def _find_partner(
        self, random: np.random.Generator, taken: set[int], names: list[str]
    ) -> tuple[int, int] | None:
        """Draw a mixture that is not taken and a speaker in it who is not among ``names``."""
        for _ in range(_CASTING_DRAWS):
            other = int(random.integers(len(self.mixtures)))
            source = int(random.integers(len(self.mixtures[other].sources)))
            name = self.mixtures[other].speakers[source]
            if other not in taken and (not name or name not in names):
                return other, source
        return None

    def _read(
        self, random: np.random.Generator, paths: Sequence[Path], form: Form, num_samples: int
    ) -> Samples:
        """Read one segment of all files at a random place and speed, ``[files, at most num_samples]``."""
        length, rate = form
        speed = draw_speed(random, self.config.speed_range)
        count = min(length, -(-num_samples * rate * speed // (self.sample_rate * 1000)))
        start = int(random.integers(length - count + 1))
        signals = np.stack([read_audio(path, start, count)[0][0].numpy() for path in paths])
        return change_speed(signals, speed, rate, self.sample_rate)[:, :num_samples]
