"""Pieces of one speaker each, for speaker verification: clips at several speeds, with noise and rooms.

Shapes: T samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field

from polsess.audio import Samples
from polsess.data.base import Example, Split, register_corpus
from polsess.data.corpora.clips import ClipsConfig, ClipsCorpus
from polsess.data.mixing import change_speed, peak_factor
from polsess.tasks import Task


class SingleSpeakersConfig(ClipsConfig):
    """Length and speeds of the pieces."""

    corpus_type: Literal["single_speakers"] = "single_speakers"
    segment_seconds: float = Field(default=3.0, gt=0.1, le=60)
    """Length of training pieces; clips that are too short are joined."""
    evaluation_seconds: float = Field(default=2.0, gt=0.1, le=60)
    """Length of the pieces of validation and test."""
    speeds: tuple[Annotated[float, Field(ge=0.5, le=2.0)], ...] = Field(default=(1.0,), min_length=1)
    """Training only: playing speeds; a speaker at another speed is a speaker of its own."""


@register_corpus("single_speakers", SingleSpeakersConfig)
class SingleSpeakers(ClipsCorpus):
    """Pieces of the voices of one split."""

    config: SingleSpeakersConfig
    tasks = frozenset({Task.SV})

    def __init__(self, config: SingleSpeakersConfig, split: Split, task: Task, seed: int = 0) -> None:
        super().__init__(config, split, task, seed)
        speakers = len(self.speakers)
        if split is not Split.TRAIN and (len(self) <= speakers or speakers < 2):
            raise ValueError(
                f"data.corpus.evaluation_examples: {len(self)} pieces of the {speakers} speakers of split "
                f"'{split}' hold no two of one speaker, or none of another; raise it, or bring more speakers."
            )

    @property
    def num_sources(self) -> int:
        """No references: who speaks is in the metadata."""
        return 0

    @property
    def classes(self) -> Sequence[str]:
        """Every speaker at every speed."""
        return [_class_name(name, speed) for name in self.speakers for speed in self.config.speeds]

    def example(self, epoch: int, index: int) -> Example:
        config, random = self.config, self.random(epoch, index)
        if self.split is Split.TRAIN:
            name = self.speakers[int(random.integers(len(self.speakers)))]
            speed = config.speeds[int(random.integers(len(config.speeds)))]
            seconds = config.segment_seconds
        else:  # every speaker in turn, so that there are pairs of each
            name, speed = self.speakers[index % len(self.speakers)], 1.0
            seconds = config.evaluation_seconds
        voice = self._piece(random, name, round(seconds * config.sample_rate), round(1000 * speed))
        scene = self.surroundings.surround(random, self._vary(voice, random)[None])
        mixture = scene.voices[0] + scene.noise
        return Example(
            mixture=torch.from_numpy(mixture * np.float32(peak_factor(mixture))),
            references=self.task.references(torch.from_numpy(scene.references)),
            identifier=f"{self.split}-{epoch if self.split is Split.TRAIN else 0}-{index:05d}",
            metadata={
                "speakers": name.replace("-", "_"),
                "class": _class_name(name, speed),
                "sexes": self.clips_of[name][0].sex,
                **scene.metadata,
            },
        )

    def _piece(self, random: np.random.Generator, name: str, num_samples: int, speed: int) -> Samples:
        """A piece of a random clip, ``[num_samples]``; a short clip follows itself."""
        clips, rate = self.clips_of[name], self.config.sample_rate
        audio = self.audio[clips[int(random.integers(len(clips)))].path]
        needed = -(-num_samples * speed // 1000) + 8  # resampling may come out a few samples short
        audio = audio if len(audio) >= needed else np.resize(audio, needed)
        start = int(random.integers(len(audio) - needed + 1))
        return change_speed(audio[start : start + needed], speed, rate, rate)[:num_samples]


def _class_name(speaker: str, speed: float) -> str:
    return f"{speaker} at {speed:g}"
