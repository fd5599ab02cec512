"""Clips of single speakers: the base of the corpora that mix them on the fly.

A ``metadata.csv`` lists the clips (columns ``path``, ``speaker``, ``split``; others are kept as they are).

Shapes: T samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from pydantic import Field, model_validator

from polsess.audio import Samples
from polsess.data.bad_files import TolerantCorpusConfig, check_share
from polsess.data.base import Corpus, Split
from polsess.data.clip_store import ClipStore
from polsess.data.mixing import Range, check_range, colour, move_formants
from polsess.data.sources import SourceFile, find_sources, split_sources
from polsess.data.surroundings import NoiseConfig, RoomConfig, Surroundings
from polsess.tasks import Task


class ClipsConfig(TolerantCorpusConfig):
    """Place of the clips, and what surrounds them."""

    metadata: Path
    """The CSV that lists the clips; paths in it are relative to its folder or to that folder's parent. Or a
    folder with ``<split>/<speaker>/<file>``; without a split, a hash assigns speakers."""
    equaliser_db: float = Field(default=0.0, ge=0.0, le=20.0)
    """Training only: standard deviation of a random, smooth gain over frequency."""
    formant_range: Range = (1.0, 1.0)
    """Training only: factor on the frequencies of a voice's formants, uniform; its pitch stays."""
    noise: tuple[NoiseConfig, ...] = ()
    """Noise in every split, of that split's recordings; fixed by index in validation and test."""
    rooms: RoomConfig | None = None
    """Rooms in every split; fixed by index in validation and test."""
    examples_per_epoch: int = Field(default=2000, ge=1)
    """Number of training draws in an epoch."""
    evaluation_examples: int = Field(default=200, ge=1)
    """Number of fixed examples in validation and in test."""

    @model_validator(mode="after")
    def _check_formants(self) -> ClipsConfig:
        check_range("formant_range", self.formant_range, 0.5, 2.0)
        return self


class ClipMixturesConfig(ClipsConfig):
    """What both ways of mixing clips have in common."""

    num_speakers: int = Field(default=2, ge=1, le=8)
    """Number of voices in a mixture, at most."""
    level_range_db: Range = (-5.0, 5.0)
    """Level of the voices relative to each other, uniform in dB."""
    gain_range_db: Range = (-10.0, 0.0)
    """Training only: gain of the mixture, uniform in dB."""
    speed_range: Range = (1.0, 1.0)
    """Training only: playing speed, uniform; pitch changes with it."""

    @model_validator(mode="after")
    def _check_clip_ranges(self) -> ClipMixturesConfig:
        check_range("level_range_db", self.level_range_db, -60, 60)
        check_range("gain_range_db", self.gain_range_db, -60, 60)
        check_range("speed_range", self.speed_range, 0.5, 2.0)
        return self


class ClipsCorpus(Corpus):
    """Examples made of the clips of one split; a subclass says how."""

    config: ClipsConfig

    def __init__(self, config: ClipsConfig, split: Split, task: Task, seed: int = 0) -> None:
        super().__init__(config, split, task, seed)
        self.surroundings = Surroundings(config.noise, config.rooms, split, config.sample_rate)
        self.clips_of: dict[str, list[SourceFile]] = {}
        found = self._choose(list_clips(config.metadata, split))
        self.audio = ClipStore(found, config.sample_rate, self._prepare)
        check_share(self.audio.refused, len(found), config.max_bad, f"{config.corpus_type}, {split}")
        for clip in self.audio.clips:
            self.clips_of.setdefault(clip.label, []).append(clip)
        self.speakers = sorted(self.clips_of)

    def _choose(self, clips: list[SourceFile]) -> list[SourceFile]:
        """The clips of the split that are used."""
        return clips

    def _prepare(self, samples: Samples) -> Samples:
        """What is done to the samples of every clip, ``[T]``."""
        return samples

    def _vary(self, voice: Samples, random: np.random.Generator) -> Samples:
        """A voice ``[T]`` as another vocal tract and another microphone would make it, in training."""
        if self.split is not Split.TRAIN:
            return voice
        low, high = self.config.formant_range
        factor = random.uniform(low, high) if low < high else low
        return colour(move_formants(voice, factor, self.config.sample_rate), self.config.equaliser_db, random)

    def inventory(self) -> Iterator[tuple[str, Path | None]]:
        """The clips of each speaker, noise and rooms."""
        for speaker in self.speakers:
            for clip in self.clips_of[speaker]:
                yield f"{speaker} {clip.path.name}", clip.path
        yield from self.surroundings.inventory()

    def details(self) -> Iterator[tuple[str, Path | None]]:
        """The inventory, and what is known of each clip."""
        yield from self.inventory()
        for speaker in self.speakers:
            for clip in self.clips_of[speaker]:
                yield f"{speaker} {clip.path.name} {clip.sex} {clip.text}", None

    def __len__(self) -> int:
        """Number of draws in an epoch."""
        training = self.split is Split.TRAIN
        return self.config.examples_per_epoch if training else self.config.evaluation_examples


class ClipMixtures(ClipsCorpus):
    """Mixtures of clips."""

    config: ClipMixturesConfig

    def __init__(self, config: ClipMixturesConfig, split: Split, task: Task, seed: int = 0) -> None:
        super().__init__(config, split, task, seed)
        if task in (Task.ES, Task.EB) and not self.surroundings.always_there:
            raise ValueError(
                f"data.corpus: clean mixtures are what task {task} asks for; add noise, or rooms with target "
                "dry, of probability 1."
            )
        if len(self.speakers) < config.num_speakers:
            raise ValueError(
                f"{config.metadata}: split '{split}' has {len(self.speakers)} speakers, but a mixture needs "
                f"{config.num_speakers}."
            )

    @property
    def num_sources(self) -> int:
        """C, as the task asks for."""
        return self.task.num_sources(self.config.num_speakers)


def list_clips(place: Path, split: Split) -> list[SourceFile]:
    """The clips of one split: of a CSV, or of a folder with one sub-folder per speaker.

    Raises:
        FileNotFoundError: If there is no such place.
        ValueError: If a row or a speaker cannot be used, or nothing is for the split.
    """
    if not place.exists():
        raise FileNotFoundError(f"data.corpus.metadata: no file at {place}.")
    clips = find_sources(place, speech=True, columns=("path", "speaker", "split"))
    return split_sources(clips, split, by_label=True, strict=True)
