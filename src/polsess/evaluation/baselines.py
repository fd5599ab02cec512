"""Systems that need no model: what is gained over them, and what is left to gain.

Shapes: C sources, S speakers who talk, T samples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.ndimage import uniform_filter1d

from polsess.data import Example
from polsess.diarization import SpeakerTimeline
from polsess.evaluation.systems import Estimate
from polsess.inference import source_names
from polsess.tasks import Task
from polsess.timelines import Turn, activity

_FADE_SECONDS = 0.01


@dataclass(frozen=True)
class Baseline:
    """Tracks made of the mixture and of what the corpus knows."""

    name: str
    make: Callable[[Example, int], Estimate]
    """Of an example and its sample rate in Hz."""
    sample_rate: int
    """In Hz, that of the corpus."""
    num_sources: None = None
    task: Task | None = None

    @property
    def identity(self) -> str:
        """Its name; the content of the tracks is decided by the data."""
        return self.name

    @property
    def origin(self) -> Mapping[str, Any]:
        """Its name under ``baseline``."""
        return {"baseline": self.name}

    def estimate(self, example: Example) -> Estimate:
        """The tracks of one example."""
        return self.make(example, self.sample_rate)


def list_baselines(sample_rate: int, *, conversations: bool) -> list[Baseline]:
    """The baselines of a corpus.

    ``mixture`` has the unprocessed mixture on every track, ``references`` the references themselves. Where it
    is known who talks when, ``mixture-in-turns`` has the mixture on every speaker's track while the speaker
    talks and silence elsewhere: perfect turns without any separation.

    Args:
        sample_rate: That of the corpus in Hz.
        conversations: Whether the corpus knows who talks when.
    """
    known = {"mixture": _mixture, "mixture-in-turns": _mixture_in_turns, "references": _references}
    return [
        Baseline(name, make, sample_rate)
        for name, make in known.items()
        if conversations or make is not _mixture_in_turns
    ]


def _mixture(example: Example, _: int) -> Estimate:
    return Estimate(np.tile(example.mixture.numpy(), (len(example.references), 1)))


def _references(example: Example, _: int) -> Estimate:
    return Estimate(example.references.numpy())


def _mixture_in_turns(example: Example, sample_rate: int) -> Estimate:
    speakers = [name for name in example.speakers if name]
    names = source_names(max(2, len(speakers)))[: len(speakers)]
    mixture, fade = example.mixture.numpy(), max(1, round(_FADE_SECONDS * sample_rate))
    talking = activity(example.timeline, speakers, len(mixture), 1 / sample_rate)
    tracks = [mixture * uniform_filter1d(row.astype(np.float32), fade) for row in talking]
    name_of = dict(zip(speakers, names, strict=True))
    turns = tuple(Turn(turn.start, turn.end, name_of[turn.speaker]) for turn in example.timeline)
    timeline = SpeakerTimeline(turns, len(mixture) / sample_rate, whole=False)
    shape = (len(tracks), len(mixture))
    return Estimate(np.array(tracks, np.float32).reshape(shape), names, timeline)
