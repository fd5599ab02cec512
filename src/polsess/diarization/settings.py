"""Settings of the gate, which decides what of a recording is separated."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any

from polsess.diarization.regions import RegionConfig

CLEARED_SHARE = 0.7
"""Of what an enhancer would take out of a recording, this share is taken out of what detector and embedder
hear: with all of it, quiet voices go as well."""
NumSpeakers = int | tuple[int, int] | None
"""How many voices a recording has: a number, the fewest and the most, or None to find out."""
_MOST_FOUND, _MOST_ASKED = 8, 64
"""Voices that are found at most by themselves, and that can be asked for."""


def _between(default: float, least: float, most: float = math.inf) -> Any:
    """A number with its limits."""
    return field(default=default, metadata={"limits": (least, most)})


@dataclass(frozen=True)
class GateConfig:
    """Thresholds of the gate, tuned on voices that no network was trained on.

    Raises:
        ValueError: If a threshold is out of range.
    """

    regions: RegionConfig = field(default_factory=RegionConfig)
    solo_seconds: float = _between(50.0, 0)
    """``auto`` separates a recording whole where less is said alone than this times the expected share of
    overlap in speech: there is too little to know the voices by."""
    whole_from: float = _between(0.1, 1e-9, 1)
    """But not with a smaller share: of one voice in 2 s the detector expects up to 0.13."""
    context_seconds: float = _between(0.5, 0, 10)
    """Sound on both sides of an overlap that the network hears with it."""
    change_seconds: float = _between(0.2, 0, 10)
    """Where one voice takes over from another without a pause as long as this, so much of either is separated
    too if several may talk there: the borders of voices are known to a quarter of a second only."""
    same_voice: float = _between(0.97, -1, 2)
    """Likeness of two groups of pieces from which they are one voice, if nothing else speaks for one or two:
    their mean cosine over that of pieces within them. Smaller groups, pieces in which several may talk and
    changes between them without a pause need less."""
    same_voice_asked: float = _between(0.9, -1, 2)
    """The same, where more voices are asked for than were found, whatever else speaks for one."""
    least_overlap: float = _between(0.02, 0, 1)
    """Share of the speech in which several surely talk, from which there must be two voices."""
    unheard_voice_overlap: float = _between(0.1, 0, 1)
    """Share from which a voice that never talks alone gets a track of its own."""
    bridge_seconds: float = _between(0.5, 0)
    """Shorter pauses within one voice's talk pass through with it."""
    fade_seconds: float = _between(0.02, 1e-9)
    """Length of the cross-fades."""

    def __post_init__(self) -> None:
        for each in fields(self):
            if limits := each.metadata.get("limits"):
                value = getattr(self, each.name)
                if not limits[0] <= value <= limits[1]:
                    raise ValueError(f"{each.name}: expected {limits[0]:g} to {limits[1]:g}, got {value}.")


def speaker_range(num_speakers: NumSpeakers) -> tuple[int, int]:
    """The fewest and the most voices.

    Raises:
        ValueError: If a number is out of range.
    """
    if num_speakers is None:
        return 1, _MOST_FOUND
    fewest, most = (num_speakers, num_speakers) if isinstance(num_speakers, int) else num_speakers
    if not 1 <= fewest <= most <= _MOST_ASKED:
        raise ValueError(
            f"num_speakers: expected a number from 1 to {_MOST_ASKED}, or the fewest and the most, got "
            f"{num_speakers}."
        )
    return fewest, most


def parse_speakers(speakers: str) -> NumSpeakers:
    """How many voices in words: ``2``, ``2-4``, or ``auto`` for None.

    Raises:
        ValueError: If it is none of these, or out of range.
    """
    if speakers == "auto":
        return None
    fewest, dash, most = speakers.partition("-")
    if not fewest.isdecimal() or (dash and not most.isdecimal()):
        raise ValueError(
            f"speakers: expected a number, e.g. 2, a range, e.g. 2-4, or auto, got {speakers!r}."
        )
    asked = (int(fewest), int(most)) if dash else int(fewest)
    try:
        speaker_range(asked)
    except ValueError:
        raise ValueError(
            f"speakers: expected 1 to {_MOST_ASKED}, the fewest before the most, got {speakers!r}."
        ) from None
    return asked
