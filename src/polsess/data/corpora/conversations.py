"""Conversations made of single-speaker clips: voices take turns, pause, interrupt and say "mhm".

Every item is planned first (``polsess.data.turns``), then filled with speech.

Shapes: S speakers, C references, T samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from pydantic import Field, model_validator

from polsess.audio import Samples
from polsess.data.base import Example, Split, register_corpus
from polsess.data.corpora.clips import ClipMixtures, ClipMixturesConfig
from polsess.data.mixing import (
    Range,
    change_speed,
    check_range,
    draw_speed,
    faded,
    peak_factor,
)
from polsess.data.sources import SourceFile, keep_transcribed
from polsess.data.speech_activity import at_full_level, find_turns
from polsess.data.surroundings import Surrounded
from polsess.data.transcripts import Segment, Transcript
from polsess.data.turns import PlannedTurn, TurnConfig, plan_turns
from polsess.tasks import SEPARATION_TASKS, Task
from polsess.text_tables import counted
from polsess.timelines import JOIN_SECONDS, Timeline, Turn, overlap_share, sorted_timeline


class ConversationsConfig(ClipMixturesConfig):
    """How the conversations go; references beyond an item's voices are silent."""

    corpus_type: Literal["conversations"] = "conversations"
    segment_seconds: float | None = Field(default=8.0, gt=0)
    """Length of training examples, which begin anywhere in a conversation; null for whole ones."""
    voice_shares: tuple[float, ...] = ()
    """Shares of items with 0, 1, 2, ... voices, e.g. [0.05, 0.25, 0.7]; empty for all voices in each."""
    overlap_range: Range = (0.0, 0.4)
    """Time in which several talk over time in which anybody does, uniform; at 1 all talk throughout."""
    full_overlap_probability: float = Field(default=0.0, ge=0, le=1)
    """Share of the items in which all voices talk throughout, whatever ``overlap_range`` says."""
    turns: TurnConfig = TurnConfig()
    conversation_seconds: float = Field(default=60.0, gt=0, le=7200)
    """Length of the conversations of validation and test."""
    turn_level_deviation_db: float = Field(default=1.5, ge=0, le=10)
    """Standard deviation of the level of a voice from turn to turn."""
    evaluation_examples: int = Field(default=40, ge=1)
    """Fixed conversations of validation and of test, each."""
    words: bool = False
    """Validation and test: every turn is a whole clip whose words are known, so that conversations carry
    them. Turns then last as long as the clips, and there are no backchannels."""

    @model_validator(mode="after")
    def _check_ranges(self) -> ConversationsConfig:
        check_range("overlap_range", self.overlap_range, 0, 1)
        check_range("turns.backchannel_seconds", self.turns.backchannel_seconds, 0.1, 5.0)
        shares = self.voice_shares
        if shares and (len(shares) > self.num_speakers + 1 or min(shares) < 0 or abs(sum(shares) - 1) > 1e-6):
            raise ValueError(
                f"voice_shares: expected at most {self.num_speakers + 1} shares from 0 up with the sum 1 (of "
                f"items with 0 to {self.num_speakers} voices), got {list(shares)}."
            )
        return self


@register_corpus("conversations", ConversationsConfig)
class Conversations(ClipMixtures):
    """Conversations of the voices of one split."""

    config: ConversationsConfig
    tasks = SEPARATION_TASKS | {Task.OSD}

    def __init__(self, config: ConversationsConfig, split: Split, task: Task, seed: int = 0) -> None:
        super().__init__(config, split, task, seed)
        self._lengths: dict[str, list[float]] = {}
        """Of the clips that turns may be, in seconds, where turns are whole clips."""
        if self._has_words:
            self._leave_out_long_clips()

    def _choose(self, clips: list[SourceFile]) -> list[SourceFile]:
        if not self._has_words:
            return clips
        return keep_transcribed(clips, f"{self.config.metadata}, split '{self.split}'")

    def _leave_out_long_clips(self) -> None:
        longest = self.config.conversation_seconds / 2
        for name in self.speakers:
            clips = [one for one in self.clips_of[name] if one.num_samples <= longest * one.sample_rate]
            self.clips_of[name] = clips
            self._lengths[name] = [one.num_samples / one.sample_rate for one in clips]
        self.speakers = [name for name in self.speakers if self.clips_of[name]]
        if len(self.speakers) < self.config.num_speakers:
            raise ValueError(
                f"{self.config.metadata}: split '{self.split}' has {counted(len(self.speakers), 'speaker')} "
                f"with clips of at most half of conversation_seconds ({longest:g} s), as words needs them; a "
                f"mixture needs {self.config.num_speakers}."
            )

    @property
    def _has_words(self) -> bool:
        return self.config.words and self.split is not Split.TRAIN

    def _prepare(self, samples: Samples) -> Samples:
        return at_full_level(samples, self.config.sample_rate)

    def example(self, epoch: int, index: int) -> Example:
        config, random = self.config, self.random(epoch, index)
        training = self.split is Split.TRAIN
        seconds = (
            config.segment_seconds if training and config.segment_seconds else config.conversation_seconds
        )
        num_voices = self._draw_count(random)
        if self.task is Task.ES:  # as in PolSESS: the others are silent
            num_voices = min(num_voices, 1)
        overlap = random.uniform(*config.overlap_range)
        if random.random() < config.full_overlap_probability:
            overlap = 1.0
        lead = random.uniform(0.0, 8.0) if training else 0.0
        if self._has_words:
            names = self._draw_names(random, num_voices)
            lengths = [self._lengths[name] for name in names]
            turns = plan_turns(random, num_voices, seconds, overlap, config.turns, lead, lengths)
        else:
            turns = plan_turns(random, num_voices, seconds, overlap, config.turns, lead)
            names = self._draw_names(random, num_voices)
        num_samples = round(seconds * config.sample_rate)
        voices, timeline, said = self._render(random, names, turns, num_samples)
        scene = self._surround(random, voices, silent=num_voices == 0)
        mixture = scene.voices.sum(0) + scene.noise
        gain = 10 ** (random.uniform(*config.gain_range_db) / 20) if training else 1.0
        factor = np.float32(gain * peak_factor(gain * mixture))
        speakers = np.zeros((config.num_speakers, num_samples), np.float32)
        speakers[: len(scene.references)] = scene.references
        metadata: dict[str, str | float] = {
            "speakers": "-".join(name.replace("-", "_") for name in names[:num_voices]) or "none",
            "sexes": "".join(self.clips_of[name][0].sex for name in names[:num_voices]) or "-",
            "voices": str(num_voices),
            "overlap": round(overlap_share(timeline), 3),
            **_level_difference(scene.references, names[:num_voices], timeline, config.sample_rate),
        }
        return Example(
            mixture=torch.from_numpy(mixture * factor),
            references=self.task.references(torch.from_numpy(speakers * factor)),
            identifier=f"{self.split}-{epoch if training else 0}-{index:05d}",
            metadata=metadata | scene.metadata,
            timeline=timeline,
            transcript=said if self._has_words else None,
            speakers=self._speakers_of_references(names[:num_voices]),
        )

    @property
    def has_timelines(self) -> bool:
        """Always: the conversations are made by turns."""
        return True

    def _speakers_of_references(self, names: Sequence[str]) -> tuple[str, ...]:
        """The voice of each reference; none under EB, whose reference is all of them."""
        if self.task is Task.EB:
            return ()
        return (*names, *[""] * (self.num_sources - len(names)))

    def _draw_names(self, random: np.random.Generator, num_voices: int) -> list[str]:
        chosen = random.choice(len(self.speakers), max(num_voices, 1), replace=False)
        return [self.speakers[i] for i in chosen]

    def _draw_count(self, random: np.random.Generator) -> int:
        shares = self.config.voice_shares
        return int(random.choice(len(shares), p=shares)) if shares else self.config.num_speakers

    def _render(
        self,
        random: np.random.Generator,
        names: Sequence[str],
        turns: Sequence[PlannedTurn],
        num_samples: int,
    ) -> tuple[Samples, Timeline, Transcript]:
        """Fill the turns with speech: voices ``[S, T]``, when each is really heard, and what is said."""
        config, rate = self.config, self.config.sample_rate
        voices = np.zeros((len(names), num_samples), np.float32)
        levels = random.uniform(*config.level_range_db, len(names))
        speeds = [
            draw_speed(random, config.speed_range) if self.split is Split.TRAIN else 1000 for _ in names
        ]
        heard: list[Turn] = []
        said: list[Segment] = []
        for turn in turns:
            first, last = (round(time * rate) for time in (turn.start, turn.end))
            name, level = (
                names[turn.voice],
                levels[turn.voice] + random.normal(0.0, config.turn_level_deviation_db),
            )
            if turn.clip is None:
                speech = self._speech(random, name, last - first, speeds[turn.voice])
            else:
                speech = faded(self.audio[self.clips_of[name][turn.clip].path][: last - first], rate)
            begin, end = max(first, 0), min(last, num_samples)
            piece = speech[begin - first : end - first]
            if len(piece) == 0:
                continue
            found = find_turns(piece, rate, begin, name)
            heard += found
            if turn.clip is not None and found:
                text = self.clips_of[name][turn.clip].text
                said.append(Segment(name, found[0].start, found[-1].end, text))
            voices[turn.voice, begin : begin + len(piece)] += piece * np.float32(10 ** (level / 20))
        voices = np.stack([self._vary(voice, random) for voice in voices])
        return voices, sorted_timeline(heard, join_seconds=JOIN_SECONDS), tuple(said)

    def _speech(self, random: np.random.Generator, name: str, num_samples: int, speed: int) -> Samples:
        """Talk of one voice, ``[num_samples]``; short clips follow each other."""
        clips, rate = self.clips_of[name], self.config.sample_rate
        needed = num_samples * speed // 1000 + 1
        pieces: list[Samples] = []
        while needed > 0:
            audio = self.audio[clips[int(random.integers(len(clips)))].path]
            start = int(random.integers(max(0, len(audio) - needed) + 1))
            pieces.append(audio[start : start + needed])
            needed -= len(pieces[-1])
        speech = change_speed(np.concatenate(pieces), speed, rate, rate)[:num_samples]
        return faded(np.pad(speech, (0, num_samples - len(speech))), rate)

    def _surround(self, random: np.random.Generator, voices: Samples, *, silent: bool) -> Surrounded:
        """Rooms and noise; an item without voices keeps the noise of one whose voice is then left out."""
        if not silent:
            return self.surroundings.surround(random, voices)
        stand_in = self._speech(random, self.speakers[0], voices.shape[-1], 1000)[None]
        scene = self.surroundings.surround(random, stand_in)
        nothing = np.zeros_like(voices)
        return Surrounded(nothing, nothing, scene.noise, scene.metadata)


def _level_difference(
    voices: Samples, names: Sequence[str], timeline: Timeline, sample_rate: int
) -> dict[str, float]:
    """By how many dB the loudest voice is louder than the quietest, each where it talks; for two or more."""
    seconds = np.array([sum(turn.duration for turn in timeline if turn.speaker == name) for name in names])
    energies = np.square(voices[: len(names)], dtype=np.float64).sum(-1) / sample_rate
    heard = (seconds > 0) & (energies > 0)
    if heard.sum() < 2:
        return {}
    levels_db = 10 * np.log10(energies[heard] / seconds[heard])
    return {"level_difference_db": round(float(np.ptp(levels_db)), 2)}
