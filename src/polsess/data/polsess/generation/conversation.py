"""The voices of one conversation: planned as those of the corpus ``conversations``, then filled with speech.

Shapes: S voices, T samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from polsess.audio import Samples, read_audio, resample, to_mono
from polsess.data.mixing import Range, check_range, faded
from polsess.data.sources import SourceFile
from polsess.data.speech_activity import at_full_level, find_turns
from polsess.data.transcripts import Segment, Transcript
from polsess.data.turns import TurnConfig, plan_turns
from polsess.schema import Schema
from polsess.timelines import JOIN_SECONDS, Timeline, Turn, sorted_timeline

_WINDOW_SECONDS = 20.0
"""Speech that the level of a turn is taken from."""
Random = np.random.Generator


class ConversationConfig(Schema):
    """How people take turns; speakers beyond an item's voices are silent."""

    overlap_range: Range = (0.0, 0.4)
    """Time in which several talk over time in which anybody does, uniform; at 1 all talk throughout."""
    voice_shares: tuple[float, ...] = ()
    """Shares of items with 1, 2, ... voices, e.g. [0.25, 0.75]; empty for all voices in each."""
    turns: TurnConfig = Field(default=TurnConfig())
    words: bool = False
    """Every turn is a whole recording whose words are known, so that conversations carry them. Turns then
    last as long as the recordings, and there are no backchannels."""

    @model_validator(mode="after")
    def _check(self) -> ConversationConfig:
        check_range("overlap_range", self.overlap_range, 0, 1)
        shares = self.voice_shares
        if shares and (min(shares) < 0 or abs(sum(shares) - 1) > 1e-6):
            raise ValueError(f"voice_shares: expected shares from 0 up with the sum 1, got {list(shares)}.")
        return self


@dataclass(frozen=True)
class Talk:
    """The voices of a conversation."""

    voices: list[Samples]
    """S signals ``[T]``, at one level; silent where the voice does not talk."""
    active: NDArray[np.bool_]
    """Whether each voice has a turn, ``[S, T]``."""
    timeline: Timeline
    """When the voices are really heard; they are called s1, s2 ..."""
    first: list[tuple[SourceFile, int, int]]
    """File, first and behind-the-last sample of what each voice says first; none of it where it is silent."""
    transcript: Transcript | None
    """What is said, where recordings with known words are asked for."""


def talk(
    random: Random,
    speakers: Sequence[Sequence[SourceFile]],
    config: ConversationConfig,
    sample_rate: int,
    num_samples: int,
) -> Talk:
    """Let people talk.

    Args:
        random: What is drawn from.
        speakers: The recordings of each of S speakers.
        config: How they take turns.
        sample_rate: In Hz.
        num_samples: T.
    """
    shares = config.voice_shares
    num_voices = int(random.choice(len(shares), p=shares)) + 1 if shares else len(speakers)
    overlap = random.uniform(*config.overlap_range)
    voices = np.zeros((len(speakers), num_samples), np.float32)
    active = np.zeros(voices.shape, np.bool_)
    first = [(files[0], 0, 0) for files in speakers]
    heard: list[Turn] = []
    said: list[Segment] = []
    lengths = [[one.num_samples / one.sample_rate for one in files] for files in speakers[:num_voices]]
    clips = lengths if config.words else None
    seconds = num_samples / sample_rate
    for turn in plan_turns(random, num_voices, seconds, overlap, config.turns, clips=clips):
        begin, end = (round(min(max(t, 0.0) * sample_rate, num_samples)) for t in (turn.start, turn.end))
        if end <= begin:
            continue
        files, name = speakers[turn.voice], f"s{turn.voice + 1}"
        if turn.clip is None:
            speech, source = _say(random, files, end - begin, sample_rate)
        else:
            speech, source = _say_whole(files[turn.clip], end - begin, sample_rate)
        voices[turn.voice, begin:end] += speech
        active[turn.voice, begin:end] = True
        if first[turn.voice][2] == 0:
            first[turn.voice] = source
        found = find_turns(speech, sample_rate, begin, name)
        heard += found
        if turn.clip is not None and found:
            said.append(Segment(name, found[0].start, found[-1].end, files[turn.clip].text))
    for number in range(len(speakers)):
        if f"s{number + 1}" not in {turn.speaker for turn in heard}:  # a short word in a pause of its clip
            voices[number], active[number] = 0.0, False
    timeline = sorted_timeline(heard, join_seconds=JOIN_SECONDS)
    return Talk(list(voices), active, timeline, first, tuple(said) if config.words else None)


def _say(
    random: Random, files: Sequence[SourceFile], num_samples: int, sample_rate: int
) -> tuple[Samples, tuple[SourceFile, int, int]]:
    """Speech of one voice, ``[num_samples]``, and where its beginning comes from."""
    pieces: list[Samples] = []
    source: tuple[SourceFile, int, int] | None = None
    missing = num_samples
    while missing > 0:
        file = files[int(random.integers(len(files)))]
        length = min(round(_WINDOW_SECONDS * file.sample_rate), file.num_samples)
        start = int(random.integers(file.num_samples - length + 1))
        samples, rate = read_audio(file.path, start, length)
        sound = at_full_level(resample(to_mono(samples, file.path), rate, sample_rate).numpy(), sample_rate)
        place = int(random.integers(max(0, len(sound) - missing) + 1))
        pieces.append(sound[place : place + missing])
        missing -= len(pieces[-1])
        if source is None:
            begin = start + round(place * rate / sample_rate)
            source = file, begin, min(begin + round(len(pieces[0]) * rate / sample_rate), start + length)
    assert source is not None
    return faded(np.concatenate(pieces), sample_rate), source


def _say_whole(
    file: SourceFile, num_samples: int, sample_rate: int
) -> tuple[Samples, tuple[SourceFile, int, int]]:
    """A whole recording as speech ``[num_samples]``; its length differs by rounding alone."""
    samples, rate = read_audio(file.path)
    sound = at_full_level(resample(to_mono(samples, file.path), rate, sample_rate).numpy(), sample_rate)
    sound = np.pad(sound, (0, max(0, num_samples - len(sound))))[:num_samples]
    return faded(sound, sample_rate), (file, 0, file.num_samples)
