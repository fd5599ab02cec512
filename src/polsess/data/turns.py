"""Plans of conversations: who talks from when to when.

The statistics follow measurements of real talk (AMI, NOTSOFAR, AISHELL-4): pauses with
a median of 0.2 to 0.7 s, about half of the changes of speaker overlap, 36 to 48 % of the overlaps last less
than half a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import Field

from polsess.data.mixing import Range
from polsess.schema import Schema
from polsess.timelines import JOIN_SECONDS, Turn, overlap_share

_SEARCH_STEPS = 12
_SOLVING_STEPS = 30
_MOST_BY_TURNS = 0.4
"""Overlap that conversations with turns reach; beyond it each voice talks by itself."""
_THROUGHOUT = 0.95
_SHORTEST_TURN_SECONDS = 0.4
_LONGEST_TURN_SECONDS = 20.0
_LONGEST_PAUSE_SECONDS = 5.0


class TurnConfig(Schema):
    """How long people talk and pause: log-normal lengths, by their median and the spread of the logarithm."""

    median_seconds: float = Field(default=2.5, gt=0)
    """Median length of a turn."""
    spread: float = Field(default=0.8, ge=0, le=2)
    """Standard deviation of the natural logarithm of a turn's length."""
    pause_median_seconds: float = Field(default=0.4, gt=0)
    """Median length of the pauses between turns that do not overlap."""
    pause_spread: float = Field(default=1.0, ge=0, le=2)
    """Standard deviation of the natural logarithm of a pause's length."""
    change_probability: float = Field(default=0.8, ge=0, le=1)
    """Probability that another speaker takes the next turn."""
    backchannel_rate: float = Field(default=6.0, ge=0)
    """Listeners' short words ("mhm") per minute of talk, at most; fewer where little overlap is wanted."""
    backchannel_seconds: Range = (0.25, 0.9)
    """Their lengths, uniform."""


@dataclass(frozen=True)
class PlannedTurn:
    """Who talks from when to when, in seconds; times may lie before the beginning of the item."""

    voice: int
    start: float
    end: float
    clip: int | None = None
    """Which of the voice's clips it is, where turns are whole clips."""


@dataclass(frozen=True)
class _Draw:
    """One turn before it has a place."""

    voice: int
    seconds: float
    pause: float
    rank: float
    """Uniform; the turn overlaps the one before if the intensity is above it."""
    amount: float
    """The share of the shorter of both turns by which they then overlap."""
    backchannels: tuple[tuple[int, float, float, float], ...]
    """Voice, place within the turn (0 to 1), length in seconds and rank of each."""
    clip: int | None


def plan_turns(
    random: np.random.Generator,
    num_voices: int,
    seconds: float,
    overlap: float,
    config: TurnConfig,
    lead: float = 0.0,
    clips: Sequence[Sequence[float]] | None = None,
) -> list[PlannedTurn]:
    """Who talks when in a conversation.

    At most two voices talk at once, unless all talk throughout.

    Args:
        random: What is drawn from.
        num_voices: S.
        seconds: Length of the item.
        overlap: Wanted time of several voices over time of any. Up to 0.4 people take turns; above that each
            talks independently of the others; from 0.95 up all talk throughout.
        config: Lengths of turns and pauses.
        lead: How long the conversation has gone on when the item begins.
        clips: Lengths in seconds of each voice's clips, of which every turn is then one, whole: there are no
            backchannels, and none that the item's beginning or end would cut. None to draw lengths.
    """
    if num_voices == 0:
        return []
    if num_voices > 1 and overlap >= _THROUGHOUT and clips is None:
        return [PlannedTurn(voice, 0.0, seconds) for voice in range(num_voices)]
    if num_voices > 1 and overlap > _MOST_BY_TURNS:
        turns = _talk_independently(random, num_voices, seconds, overlap, config, clips)
    else:
        turns = _take_turns(random, num_voices, seconds, overlap, config, lead, clips)
    if clips is not None:
        return [turn for turn in turns if turn.start >= 0 and turn.end <= seconds]
    return [turn for turn in turns if turn.end > 0 and turn.start < seconds]


def _take_turns(
    random: np.random.Generator,
    num_voices: int,
    seconds: float,
    overlap: float,
    config: TurnConfig,
    lead: float,
    clips: Sequence[Sequence[float]] | None,
) -> list[PlannedTurn]:
    """One after the other, with as many overlaps as it takes."""
    draws = _draw_turns(random, num_voices, seconds + lead, config, clips)
    low, high = 0.0, 2.0
    for _ in range(_SEARCH_STEPS if num_voices > 1 and overlap > 0 else 0):
        middle = (low + high) / 2
        share = _overlap_of(_lay_out(draws, middle, lead), seconds)
        low, high = (middle, high) if share < overlap else (low, middle)
    return _lay_out(draws, low, lead)


def _talk_independently(
    random: np.random.Generator,
    num_voices: int,
    seconds: float,
    overlap: float,
    config: TurnConfig,
    clips: Sequence[Sequence[float]] | None,
) -> list[PlannedTurn]:
    """Every voice talks and pauses by itself."""
    share = _share_of_each(num_voices, overlap)
    turns = []
    for voice in range(num_voices):
        if clips is None:
            lengths = random.lognormal(np.log(config.median_seconds), config.spread, 64)
        else:
            lengths = np.array(clips[voice])
        time = random.uniform(0.0, config.median_seconds) * (-1 if clips is None else 1)
        while time < seconds:
            clip: int | None = int(random.integers(len(lengths)))
            length = float(lengths[clip])
            if clips is None:
                length, clip = float(np.clip(length, _SHORTEST_TURN_SECONDS, _LONGEST_TURN_SECONDS)), None
            turns.append(PlannedTurn(voice, time, time + length, clip))
            pause = random.exponential(float(lengths.mean()) * (1 - share) / share)
            time += length + max(JOIN_SECONDS, pause)
    return sorted(turns, key=lambda turn: turn.start)


def _share_of_each(num_voices: int, overlap: float) -> float:
    """The share p of the time for which each of S independent voices talks, so that they overlap as asked.

    Several talk for 1 - (1 - p)^S - S p (1 - p)^(S-1) of the time, anybody for 1 - (1 - p)^S.
    """
    low, high = 0.0, 2 * overlap / (1 + overlap)  # exact for two voices; more of them overlap more
    for _ in range(_SOLVING_STEPS):
        share = (low + high) / 2
        anybody = 1 - (1 - share) ** num_voices
        several = anybody - num_voices * share * (1 - share) ** (num_voices - 1)
        low, high = (share, high) if several < overlap * anybody else (low, share)
    return high


def _draw_turns(
    random: np.random.Generator,
    num_voices: int,
    seconds: float,
    config: TurnConfig,
    clips: Sequence[Sequence[float]] | None,
) -> list[_Draw]:
    """Turns that fill the time even if each lies within the one before it."""
    weights = random.dirichlet(np.full(num_voices, 5.0))
    voice, filled = int(random.integers(num_voices)), 0.0
    draws: list[_Draw] = []
    while filled < 2 * seconds + 1 and len(draws) < 10_000:
        if draws and num_voices > 1 and random.random() < config.change_probability:
            others = np.delete(np.arange(num_voices), voice)
            voice = int(random.choice(others, p=weights[others] / weights[others].sum()))
        clip: int | None = None
        if clips is None:
            length = _draw_length(random, config)
        else:
            clip = int(random.integers(len(clips[voice])))
            length = clips[voice][clip]
        pause = float(
            min(
                random.lognormal(np.log(config.pause_median_seconds), config.pause_spread),
                _LONGEST_PAUSE_SECONDS,
            )
        )
        listening = num_voices > 1 and clip is None
        count = int(random.poisson(config.backchannel_rate * length / 60)) if listening else 0
        backchannels = tuple(
            (
                int(random.choice(np.delete(np.arange(num_voices), voice))),
                float(random.random()),
                float(random.uniform(*config.backchannel_seconds)),
                float(random.random()),
            )
            for _ in range(count)
        )
        draws.append(
            _Draw(
                voice, length, pause, float(random.random()), float(random.beta(1.0, 2.5)), backchannels, clip
            )
        )
        filled += length
    return draws


def _draw_length(random: np.random.Generator, config: TurnConfig) -> float:
    length = random.lognormal(np.log(config.median_seconds), config.spread)
    return float(np.clip(length, _SHORTEST_TURN_SECONDS, _LONGEST_TURN_SECONDS))


def _lay_out(draws: Sequence[_Draw], intensity: float, lead: float) -> list[PlannedTurn]:
    """Give every turn its place; a higher intensity lets more turns overlap, above 1 also further."""
    turns: list[PlannedTurn] = []
    free: dict[int, float] = {}  # when each voice is done
    before: _Draw | None = None
    end = -lead
    for draw in draws:
        start = end + draw.pause
        if before is not None and before.voice != draw.voice and draw.rank < intensity:
            amount = draw.amount + (1 - draw.amount) * max(0.0, intensity - 1)
            start = end - amount * min(draw.seconds, before.seconds)
        earliest = sorted(free.values())[-2] if len(free) > 1 else -np.inf  # no more than two at once
        start = max(start, earliest, free.get(draw.voice, -np.inf) + JOIN_SECONDS)
        turns.append(PlannedTurn(draw.voice, start, start + draw.seconds, draw.clip))
        free[draw.voice] = start + draw.seconds
        for voice, place, length, rank in draw.backchannels:
            begin = max(start + place * draw.seconds, free.get(voice, -np.inf) + JOIN_SECONDS)
            others = [time for other, time in free.items() if other not in (voice, draw.voice)]
            if (
                rank < intensity
                and begin + length <= start + draw.seconds
                and begin >= max(others, default=begin)
            ):
                turns.append(PlannedTurn(voice, begin, begin + length))
                free[voice] = begin + length
        end, before = max(end, start + draw.seconds), draw
    return turns


def _overlap_of(turns: Sequence[PlannedTurn], seconds: float) -> float:
    return overlap_share(
        tuple(
            Turn(max(turn.start, 0.0), min(turn.end, seconds), str(turn.voice))
            for turn in turns
            if turn.end > 0 and turn.start < seconds
        )
    )
