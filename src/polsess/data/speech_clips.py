"""Mixtures made on the fly from single-speaker clips: random speakers, levels, offsets and speeds.

A ``metadata.csv`` lists the clips (columns ``path``, ``speaker``, ``split``; others are kept as they are).
Every training draw is a new conversation; validation and test are fixed lists.

Shapes: S speakers, T samples.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator

from polsess.audio import read_audio, resample
from polsess.data.base import Corpus, CorpusConfig, Example, Split, register_corpus
from polsess.tasks import Task

Samples = NDArray[np.float32]


class SpeechClipsConfig(CorpusConfig):
    """Where the clips are and how they are mixed."""

    corpus_type: Literal["speech_clips"] = "speech_clips"
    metadata: Path
    """The CSV that lists the clips; paths in it are relative to its folder or to that folder's parent."""
    num_speakers: int = Field(default=2, ge=1, le=8)
    """Voices in a mixture."""
    level_range_db: tuple[float, float] = (-5.0, 5.0)
    """The level of every further speaker relative to the first, uniform in dB."""
    gain_range_db: tuple[float, float] = (-10.0, 0.0)
    """Training only: a common gain of the mixture, uniform in dB."""
    speed_range: tuple[float, float] = (1.0, 1.0)
    """Training only: playing speed of every clip, uniform; pitch changes with it."""
    examples_per_epoch: int = Field(default=2000, ge=1)
    """Training draws that make an epoch."""
    evaluation_examples: int = Field(default=200, ge=1)
    """Fixed mixtures of validation and of test, each."""

    @model_validator(mode="after")
    def _check_ranges(self) -> SpeechClipsConfig:
        for name in ("level_range_db", "gain_range_db", "speed_range"):
            low, high = getattr(self, name)
            if not low <= high:
                raise ValueError(f"{name}: the first value must not exceed the second, got {low} and {high}.")
        if not 0.5 <= self.speed_range[0] <= self.speed_range[1] <= 2.0:
            raise ValueError(f"speed_range must lie within 0.5 to 2, got {self.speed_range}.")
        return self


@dataclass(frozen=True)
class Clip:
    """One recording of one speaker."""

    speaker: str
    path: Path
    sex: str


@register_corpus("speech_clips", SpeechClipsConfig)
class SpeechClips(Corpus):
    """Random conversations of the clips of one split, held in memory."""

    config: SpeechClipsConfig

    def __init__(self, config: SpeechClipsConfig, split: Split, task: Task, seed: int = 0) -> None:
        super().__init__(config, split, task, seed)
        clips = _read_metadata(config.metadata, split)
        self.clips_of: dict[str, list[Clip]] = {}
        for clip in clips:
            self.clips_of.setdefault(clip.speaker, []).append(clip)
        self.speakers = sorted(self.clips_of)
        if len(self.speakers) < config.num_speakers:
            raise ValueError(
                f"{config.metadata}: split '{split}' has {len(self.speakers)} speakers, but a mixture needs "
                f"{config.num_speakers}."
            )
        self.audio = {clip.path: _load(clip.path, config.sample_rate) for clip in clips}

    @property
    def num_sources(self) -> int:
        """C, as the task asks for."""
        return self.task.num_sources(self.config.num_speakers)

    def __len__(self) -> int:
        """Draws in an epoch."""
        training = self.split is Split.TRAIN
        return self.config.examples_per_epoch if training else self.config.evaluation_examples

    def example(self, epoch: int, index: int) -> Example:
        """Draw speakers, clips, levels and offsets; see the base class."""
        random = self.random(epoch, index)
        chosen = random.choice(len(self.speakers), self.config.num_speakers, replace=False)
        names = [self.speakers[i] for i in chosen]
        clips = [self.clips_of[name][random.integers(len(self.clips_of[name]))] for name in names]
        voices = [self._voice(clip, random) for clip in clips]
        length = self._mixture_length(voices)
        speech = np.stack([_place(voice, length, random) for voice in voices])
        levels = [0.0, *random.uniform(*self.config.level_range_db, self.config.num_speakers - 1)]
        speech = _set_levels(speech, levels, self._gain_db(random))
        speakers = torch.from_numpy(speech)
        metadata: dict[str, str | float] = {"speakers": "-".join(names)}
        metadata["sexes"] = "".join(clip.sex for clip in clips)
        if len(levels) > 1:
            metadata["ssr_db"] = round(-levels[1], 2)
        return Example(
            mixture=speakers.sum(0),
            references=self.task.references(speakers),
            identifier=f"{self.split}-{epoch if self.split is Split.TRAIN else 0}-{index:05d}",
            metadata=metadata,
        )

    def _voice(self, clip: Clip, random: np.random.Generator) -> Samples:
        audio = self.audio[clip.path]
        low, high = self.config.speed_range
        if self.split is not Split.TRAIN or low == high == 1.0:
            return audio
        speed = round(1000 * random.uniform(low, high))  # in thousandths
        faster: Samples = resample(torch.from_numpy(audio), speed, 1000).numpy()
        return faster

    def _mixture_length(self, voices: list[Samples]) -> int:
        if self.split is Split.TRAIN and self.config.segment_seconds is not None:
            return round(self.config.segment_seconds * self.config.sample_rate)
        return min(len(voice) for voice in voices)  # as the "min" mode of WSJ0-2mix

    def _gain_db(self, random: np.random.Generator) -> float:
        return random.uniform(*self.config.gain_range_db) if self.split is Split.TRAIN else 0.0


def _place(voice: Samples, length: int, random: np.random.Generator) -> Samples:
    """A random window of a long clip, or a short clip at a random offset in silence."""
    spare = len(voice) - length
    if spare >= 0:
        start = random.integers(spare + 1)
        return voice[start : start + length]
    before = random.integers(-spare + 1)
    return np.pad(voice, (before, -spare - before))


def _set_levels(speech: Samples, levels_db: list[float], gain_db: float) -> Samples:
    """Give every speaker its RMS level relative to the first; scale all if the mixture would clip."""
    rms = np.sqrt(np.square(speech).mean(-1, keepdims=True)) + 1e-8
    levels = 10 ** ((np.array(levels_db)[:, None] + gain_db) / 20)
    leveled = speech / rms * rms[0] * levels
    peak = np.abs(leveled.sum(0)).max()
    return (leveled / max(1.0, peak / 0.99)).astype(np.float32)


def _read_metadata(path: Path, split: Split) -> list[Clip]:
    if not path.is_file():
        raise FileNotFoundError(f"data.corpus.metadata: no file at {path}.")
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        missing = {"path", "speaker", "split"} - set(reader.fieldnames or [])
        if missing:
            raise ValueError(
                f"{path}: missing column(s) {', '.join(sorted(missing))}; found {reader.fieldnames}."
            )
        rows = [(number, row) for number, row in enumerate(reader, start=2) if row["split"] == split]
    if not rows:
        raise ValueError(f"{path}: no row has split '{split}'.")
    return [
        Clip(row["speaker"], _locate(path, row["path"], number), row.get("sex", "?")) for number, row in rows
    ]


def _locate(metadata: Path, name: str, row: int) -> Path:
    for folder in (metadata.parent, metadata.parent.parent):
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(f"{metadata}, row {row}: no file '{name}' beside it or beside its folder.")


def _load(path: Path, sample_rate: int) -> Samples:
    audio, rate = read_audio(path)
    samples: Samples = resample(audio.mean(0), rate, sample_rate).numpy()
    return samples
