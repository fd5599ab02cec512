"""The trials of a blind test, made from clips."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from string import ascii_lowercase
from typing import Self

from pydantic import Field, model_validator
from torch import Tensor

from polsess.audio import integrated_loudness
from polsess.listening.clips import Anchor, Clip, Clips, Pcm, cut, level
from polsess.listening.key import Key, Kind, Role, StimulusKey, TrialKey
from polsess.schema import ConfigError, Schema

MAX_STIMULI = 12  # BS.1534-3, 5.2: listeners cannot compare more at a time
REFERENCE = "reference"
DEFAULT_CLIPS = 10
_CLIPS_PER_CONTROL = 5
_MIN_CONTROLS = 2
_ROLES = {REFERENCE: Role.REFERENCE, Anchor.MIXTURE: Role.SYSTEM} | dict.fromkeys(
    (Anchor.LOW, Anchor.MID, Anchor.HALFWAY), Role.ANCHOR
)


class ListeningPlan(Schema):
    """Plan of a test."""

    kind: Kind = Kind.MUSHRA
    title: str = Field(default="Listening test", min_length=1, max_length=100)
    """Title that listeners see; it should not name a system."""
    clips: int | None = Field(default=None, ge=1, le=200)
    """Clips that count; null for 10, or as many as there are."""
    items: tuple[str, ...] = ()
    """Take the clips from these utterances; empty to draw from all."""
    anchors: tuple[Anchor, ...] = ()
    """Anchors beside the hidden reference; empty for those that the kind of test needs."""
    max_seconds: float = Field(default=12.0, ge=1.0, le=60.0)
    """Longer clips are cut to where the target is strongest."""
    seed: int = Field(default=0, ge=0)

    @property
    def all_anchors(self) -> tuple[Anchor, ...]:
        """The requested anchors and those that the kind of test requires."""
        wanted = self.anchors
        if self.kind is Kind.MUSHRA:
            wanted = wanted or (Anchor.LOW, Anchor.MID, Anchor.MIXTURE)
        if self.kind is Kind.P835:
            wanted = (*wanted, Anchor.MIXTURE)  # the screening compares it with the reference
        return tuple(dict.fromkeys(wanted))

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.kind is Kind.AB and set(self.anchors) - {Anchor.MIXTURE}:
            raise ValueError("anchors: an A/B test compares systems; only 'mixture' can be added to them.")
        return self


@dataclass(frozen=True)
class Trial:
    """One page with its sounds."""

    key: TrialKey
    sounds: Mapping[str, Pcm]
    """Sounds ``[T]`` by the id of the stimulus."""
    reference: Pcm | None
    """The open reference, ``[T]``; None where it would reveal too much."""


@dataclass(frozen=True)
class ListeningTest:
    """A test ready to be written as a page."""

    key: Key
    trials: tuple[Trial, ...]
    left_out: tuple[str, ...] = field(default=())
    """Clips whose target is silent."""


@dataclass(frozen=True)
class _Page:
    """A trial before it has an id."""

    clip: Clip
    conditions: tuple[str, ...]
    training: bool = False
    control: bool = False


def make_test(
    clips: Clips, plan: ListeningPlan, progress: Callable[[int], None] = lambda _: None
) -> ListeningTest:
    """Make a test; the same plan and evaluations make the same test.

    Args:
        clips: Clips of evaluations.
        plan: Plan of the test.
        progress: Called with the number of clips done.

    Raises:
        ConfigError: If there are too few clips or systems, too many stimuli, or a name is taken.
        ValueError: If an estimate is not finite.
    """
    conditions = _conditions(clips.systems, plan)
    usable, left_out = _usable(clips, plan, progress)
    random_order = random.Random(f"trials/{plan.seed}")  # noqa: S311 - a reproducible order, no secret
    training, counted = _PAGES[plan.kind](usable, conditions)
    pages = [*training, *random_order.sample(counted, len(counted))]
    trials = tuple(_trial(page, f"t{index:03d}", plan, random_order) for index, page in enumerate(pages))
    key = Key(
        test=_digest(trials, plan),
        kind=plan.kind,
        title=plan.title,
        seed=plan.seed,
        sample_rate=usable[0].sample_rate,
        trials=tuple(trial.key for trial in trials),
    )
    return ListeningTest(key, trials, tuple(left_out))


def _conditions(systems: list[str], plan: ListeningPlan) -> tuple[str, ...]:
    """Systems and anchors; the hidden reference is not among them."""
    for name in systems:
        if name in _ROLES:
            raise ConfigError(f"listen: a system is named '{name}', as a part of the test is; rename it.")
    conditions = (*systems, *plan.all_anchors)
    if plan.kind is Kind.AB and len(conditions) < 2:
        raise ConfigError("listen: an A/B test needs two evaluations, or --anchor mixture beside one.")
    if plan.kind is Kind.MUSHRA and len(conditions) + 1 > MAX_STIMULI:
        raise ConfigError(
            f"listen: {len(conditions) + 1} stimuli at a time, BS.1534 allows {MAX_STIMULI}; use fewer."
        )
    return conditions


def _usable(
    clips: Clips, plan: ListeningPlan, progress: Callable[[int], None]
) -> tuple[list[Clip], list[str]]:
    """The clip for training and those that count; and the names of clips whose target is silent."""
    wanted = (plan.clips or DEFAULT_CLIPS) + 1
    usable: list[Clip] = []
    left_out = []
    for whole in clips.draw(plan.seed, plan.items):
        clip = cut(whole, plan.max_seconds)
        if math.isfinite(integrated_loudness(clip.reference, clip.sample_rate)):
            usable.append(clip)
            progress(len(usable))
        else:
            left_out.append(f"{clip.item}/{clip.source}")
        if len(usable) == wanted:
            break
    if len(usable) < (wanted if plan.clips else 2):
        raise ConfigError(
            f"--clips: expected {plan.clips or 1} and one for training, but the data gives {len(usable)} in "
            "all; ask for fewer or evaluate more utterances."
        )
    return usable, left_out


def _side_by_side(clips: list[Clip], conditions: tuple[str, ...]) -> tuple[list[_Page], list[_Page]]:
    pages = [_Page(clip, (REFERENCE, *conditions), training=clip is clips[0]) for clip in clips]
    return pages[:1], pages[1:]


def _in_pairs(clips: list[Clip], conditions: tuple[str, ...]) -> tuple[list[_Page], list[_Page]]:
    easy = (REFERENCE, Anchor.MIXTURE.value)
    training, *counted = clips
    num_controls = max(_MIN_CONTROLS, len(counted) // _CLIPS_PER_CONTROL)
    pages = [_Page(clip, pair) for clip in counted for pair in combinations(conditions, 2)]
    pages += [_Page(clip, easy, control=True) for clip in counted[:num_controls]]
    return [_Page(training, easy, training=True)], pages


def _one_by_one(clips: list[Clip], conditions: tuple[str, ...]) -> tuple[list[_Page], list[_Page]]:
    pages = [
        _Page(clip, (condition,), training=clip is clips[0])
        for clip in clips
        for condition in (REFERENCE, *conditions)
    ]
    return [page for page in pages if page.training], [page for page in pages if not page.training]


_PAGES = {Kind.MUSHRA: _side_by_side, Kind.AB: _in_pairs, Kind.P835: _one_by_one}


def _trial(page: _Page, identifier: str, plan: ListeningPlan, random_order: random.Random) -> Trial:
    """Make the sounds and name them by letters that reveal nothing."""
    clip = page.clip
    sounds = {name: _sound(clip, name) for name in dict.fromkeys((*page.conditions, REFERENCE))}
    levelled = level(sounds, clip.sample_rate)
    letters = dict(
        zip(ascii_lowercase, random_order.sample(page.conditions, len(page.conditions)), strict=False)
    )
    stimuli = tuple(
        StimulusKey(id=letter, condition=name, role=_ROLES.get(name, Role.SYSTEM))
        for letter, name in letters.items()
    )
    key = TrialKey(
        id=identifier,
        training=page.training,
        control=page.control,
        item=clip.item,
        source=clip.source,
        stimuli=stimuli,
    )
    is_open = plan.kind is not Kind.P835
    return Trial(
        key,
        {letter: levelled[name] for letter, name in letters.items()},
        levelled[REFERENCE] if is_open else None,
    )


def _sound(clip: Clip, condition: str) -> Tensor:
    if condition == REFERENCE:
        return clip.reference
    if condition not in clip.estimates:
        return Anchor(condition).make(clip)
    if not clip.estimates[condition].isfinite().all():
        raise ValueError(
            f"{clip.item}: the estimate of {condition} holds NaN or infinity; leave the item out."
        )
    return clip.estimates[condition]


def _digest(trials: tuple[Trial, ...], plan: ListeningPlan) -> str:
    digest = hashlib.sha256(f"{plan.kind}\n{plan.title}\n".encode())
    for trial in trials:
        for letter, samples in trial.sounds.items():
            digest.update(f"{trial.key.id}{letter}{len(samples)}\n".encode() + samples.tobytes())
    return digest.hexdigest()[:16]
