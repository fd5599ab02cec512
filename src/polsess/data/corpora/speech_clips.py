"""Mixtures made on the fly from single-speaker clips: random speakers, levels, offsets and speeds.

A ``metadata.csv`` lists the clips (columns ``path``, ``speaker``, ``split``; others are kept as they are).
Every training draw is a new conversation; validation and test are fixed lists.

Shapes: S speakers, T samples.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from pydantic import Field

from polsess.audio import Samples
from polsess.data.base import Example, Split, register_corpus
from polsess.data.corpora.clips import ClipMixtures, ClipMixturesConfig
from polsess.data.mixing import (
    change_speed,
    draw_speed,
    peak_factor,
    place,
    set_levels,
)
from polsess.data.sources import SourceFile
from polsess.tasks import Task


class SpeechClipsConfig(ClipMixturesConfig):
    """Mixtures of which every voice talks throughout; levels are relative to the first voice."""

    corpus_type: Literal["speech_clips"] = "speech_clips"
    reverse_probability: float = Field(default=0.0, ge=0.0, le=1.0)
    """Training only: share of clips that are reversed in time."""


@register_corpus("speech_clips", SpeechClipsConfig)
class SpeechClips(ClipMixtures):
    """Random conversations of the clips of one split."""

    config: SpeechClipsConfig

    def example(self, epoch: int, index: int) -> Example:
        """Draw speakers, clips, levels and offsets."""
        random = self.random(epoch, index)
        chosen = random.choice(len(self.speakers), self.config.num_speakers, replace=False)
        names = [self.speakers[i] for i in chosen]
        clips = [self.clips_of[name][random.integers(len(self.clips_of[name]))] for name in names]
        sounds = [self._voice(clip, random) for clip in clips]
        length = self._mixture_length(sounds)
        voices = np.stack([self._vary(place(sound, length, random), random) for sound in sounds])
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
        return audio[::-1] if backwards else audio

    def _mixture_length(self, voices: list[Samples]) -> int:
        if self.split is Split.TRAIN and self.config.segment_seconds is not None:
            return round(self.config.segment_seconds * self.config.sample_rate)
        return min(len(voice) for voice in voices)  # as the "min" mode of WSJ0-2mix

    def _scale(self, voices: Samples, random: np.random.Generator) -> Samples:
        """A common gain in training, and no clipping."""
        gain_db = random.uniform(*self.config.gain_range_db) if self.split is Split.TRAIN else 0.0
        gain = 10 ** (gain_db / 20)
        return (voices * (gain * peak_factor(gain * voices.sum(0)))).astype(np.float32)
