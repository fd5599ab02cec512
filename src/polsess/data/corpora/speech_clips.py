"""Mixtures made on the fly from single-speaker clips: random speakers, levels, offsets and speeds.

A ``metadata.csv`` lists the clips (columns ``path``, ``speaker``, ``split``; others are kept as they are).
Every training draw is a new conversation; validation and test are fixed lists.

Shapes: S speakers, T samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field, model_validator

from polsess.audio import Samples, read_audio, resample, to_mono
from polsess.data.base import Corpus, CorpusConfig, Example, Split, register_corpus
from polsess.data.mixing import (
    Range,
    change_speed,
    check_range,
    colour,
    draw_speed,
    peak_factor,
    place,
    set_levels,
)
from polsess.data.sources import SourceFile, find_sources, split_sources
from polsess.data.surroundings import NoiseConfig, RoomConfig, Surroundings
from polsess.tasks import Task


class SpeechClipsConfig(CorpusConfig):
    """Place of the clips, and how they are mixed."""

    corpus_type: Literal["speech_clips"] = "speech_clips"
    metadata: Path
    """The CSV that lists the clips; paths in it are relative to its folder or to that folder's parent. Or a
    folder with ``<split>/<speaker>/<file>``; without a split, a hash assigns speakers."""
    num_speakers: int = Field(default=2, ge=1, le=8)
    """Number of voices in a mixture."""
    level_range_db: Range = (-5.0, 5.0)
    """Level of every further speaker relative to the first, uniform in dB."""
    gain_range_db: Range = (-10.0, 0.0)
    """Training only: gain of the mixture, uniform in dB."""
    speed_range: Range = (1.0, 1.0)
    """Training only: playing speed of every clip, uniform; pitch changes with it."""
    equaliser_db: float = Field(default=0.0, ge=0.0, le=20.0)
    """Training only: standard deviation of a random, smooth gain over frequency, drawn for every clip."""
    reverse_probability: float = Field(default=0.0, ge=0.0, le=1.0)
    """Training only: share of clips that are reversed in time."""
    noise: tuple[NoiseConfig, ...] = ()
    """Noise in every split, of that split's recordings; fixed by index in validation and test."""
    rooms: RoomConfig | None = None
    """Rooms in every split; fixed by index in validation and test."""
    examples_per_epoch: int = Field(default=2000, ge=1)
    """Number of training draws in an epoch."""
    evaluation_examples: int = Field(default=200, ge=1)
    """Number of fixed mixtures in validation and in test."""

    @model_validator(mode="after")
    def _check_ranges(self) -> SpeechClipsConfig:
        check_range("level_range_db", self.level_range_db, -60, 60)
        check_range("gain_range_db", self.gain_range_db, -60, 60)
        check_range("speed_range", self.speed_range, 0.5, 2.0)
        return self


@register_corpus("speech_clips", SpeechClipsConfig)
class SpeechClips(Corpus):
    """Random conversations of the clips of one split, held in memory."""

    config: SpeechClipsConfig

    def __init__(self, config: SpeechClipsConfig, split: Split, task: Task, seed: int = 0) -> None:
        super().__init__(config, split, task, seed)
        self.surroundings = Surroundings(config.noise, config.rooms, split, config.sample_rate)
        if task is not Task.SB and not self.surroundings.always_there:
            raise ValueError(
                f"data.corpus: clean mixtures are what task {task} asks for; add noise, or rooms with target "
                "dry, of probability 1."
            )
        clips = list_clips(config.metadata, split)
        self.clips_of: dict[str, list[SourceFile]] = {}
        for clip in clips:
            self.clips_of.setdefault(clip.label, []).append(clip)
        self.speakers = sorted(self.clips_of)
        if len(self.speakers) < config.num_speakers:
            raise ValueError(
                f"{config.metadata}: split '{split}' has {len(self.speakers)} speakers, but a mixture needs "
                f"{config.num_speakers}."
            )
        self.audio = {clip.path: load_clip(clip.path, config.sample_rate) for clip in clips}

    def inventory(self) -> Iterator[tuple[str, Path | None]]:
        """The clips of each speaker, noise and rooms."""
        for speaker in self.speakers:
            for clip in self.clips_of[speaker]:
                yield f"{speaker} {clip.path.name}", clip.path
        yield from self.surroundings.inventory()

    @property
    def num_sources(self) -> int:
        """C, as the task asks for."""
        return self.task.num_sources(self.config.num_speakers)

    def __len__(self) -> int:
        """Number of draws in an epoch."""
        training = self.split is Split.TRAIN
        return self.config.examples_per_epoch if training else self.config.evaluation_examples

    def example(self, epoch: int, index: int) -> Example:
        """Draw speakers, clips, levels and offsets."""
        random = self.random(epoch, index)
        chosen = random.choice(len(self.speakers), self.config.num_speakers, replace=False)
        names = [self.speakers[i] for i in chosen]
        clips = [self.clips_of[name][random.integers(len(self.clips_of[name]))] for name in names]
        sounds = [self._voice(clip, random) for clip in clips]
        length = self._mixture_length(sounds)
        voices = np.stack([place(sound, length, random) for sound in sounds])
        levels = [0.0, *random.uniform(*self.config.level_range_db, self.config.num_speakers - 1)]
        voices = self._scale(set_levels(voices, levels), random)
        if self.task is Task.ES:  # as in PolSESS: the others are silent
            voices, names, clips, levels = voices[:1], names[:1], clips[:1], levels[:1]
        scene = self.surroundings.surround(random, voices)
        mixture = scene.voices.sum(0) + scene.noise
        factor = np.float32(peak_factor(mixture))
        metadata: dict[str, str | float] = {"speakers": "-".join(name.replace("-", "_") for name in names)}
        metadata["sexes"] = "".join(clip.sex for clip in clips)
        if len(levels) > 1:
            metadata["ssr_db"] = round(float(-levels[1]), 2)
        return Example(
            mixture=torch.from_numpy(mixture * factor),
            references=self.task.references(torch.from_numpy(scene.references * factor)),
            identifier=f"{self.split}-{epoch if self.split is Split.TRAIN else 0}-{index:05d}",
            metadata=metadata | scene.metadata,
        )

    def _voice(self, clip: SourceFile, random: np.random.Generator) -> Samples:
        audio = self.audio[clip.path]
        if self.split is not Split.TRAIN:
            return audio
        speed = draw_speed(random, self.config.speed_range)
        audio = change_speed(audio, speed, self.config.sample_rate, self.config.sample_rate)
        backwards = self.config.reverse_probability > 0 and random.random() < self.config.reverse_probability
        return colour(audio[::-1] if backwards else audio, self.config.equaliser_db, random)

    def _mixture_length(self, voices: list[Samples]) -> int:
        if self.split is Split.TRAIN and self.config.segment_seconds is not None:
            return round(self.config.segment_seconds * self.config.sample_rate)
        return min(len(voice) for voice in voices)  # as the "min" mode of WSJ0-2mix

    def _scale(self, voices: Samples, random: np.random.Generator) -> Samples:
        """A common gain in training, and no clipping."""
        gain_db = random.uniform(*self.config.gain_range_db) if self.split is Split.TRAIN else 0.0
        gain = 10 ** (gain_db / 20)
        return (voices * (gain * peak_factor(gain * voices.sum(0)))).astype(np.float32)


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


def load_clip(path: Path, sample_rate: int) -> Samples:
    """The mean of a clip's channels at a rate in Hz, ``[T]``."""
    audio, rate = read_audio(path)
    samples: Samples = resample(to_mono(audio, path), rate, sample_rate).numpy()
    return samples
