"""Who talks when in the recordings of an evaluation: ``timelines.jsonl`` beside the table of scores.

One line of JSON per recording whose corpus knows who talks when, in the order of the table::

    {"identifier": "test-0-00000", "seconds": 60.0,
     "speakers": ["anna", "jan"], "tracks": ["speaker2", "speaker1"],
     "reference": [{"start": 0.0, "end": 2.5, "speaker": "anna", "confidence": null}, ...],
     "estimate": [{"start": 0.1, "end": 2.4, "speaker": "speaker2", "confidence": 0.9}, ...],
     "source": "system", "separated": [[1.9, 2.6], ...], "swaps_repaired": 0}

``tracks`` holds the track of each of ``speakers`` (those who talk, in the order of the references); tracks
that belong to nobody appear in ``estimate`` alone. ``source`` says where ``estimate`` comes from: "system",
or "activity" where it was made from the levels of the tracks. ``separated`` holds the stretches whose tracks
come from a network. All times are seconds from the beginning of the recording.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from polsess.files import parse_json, write_text
from polsess.schema import Schema, parse
from polsess.timelines import Timeline, Turn

TIMELINES = "timelines.jsonl"


class StoredTurn(Schema):
    """One turn; see ``polsess.timelines.Turn``."""

    start: float = Field(ge=0)
    end: float = Field(ge=0)
    speaker: str
    confidence: float | None = None


class Timelines(Schema):
    """Who talks when in one recording, in truth and by a system."""

    identifier: str
    seconds: float = Field(ge=0)
    """Length of the recording."""
    speakers: tuple[str, ...]
    """Those who talk, in the order of the references."""
    tracks: tuple[str, ...]
    """The track of each speaker."""
    reference: tuple[StoredTurn, ...]
    estimate: tuple[StoredTurn, ...]
    """The turns that the system found, by track."""
    source: Literal["system", "activity"]
    """Whether the system gave ``estimate`` or it was made from the levels of the tracks."""
    separated: tuple[tuple[float, float], ...] = ()
    """Stretches whose tracks come from the network, in seconds; none where that is not known."""
    swaps_repaired: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _check_tracks(self) -> Timelines:
        if len(self.tracks) != len(self.speakers):
            raise ValueError(
                f"tracks: expected one for each of the {len(self.speakers)} speakers, got {len(self.tracks)}."
            )
        return self

    @property
    def truth(self) -> Timeline:
        """The turns of the reference."""
        return tuple(Turn(**turn.model_dump()) for turn in self.reference)

    @property
    def found(self) -> Timeline:
        """The turns that the system found, each called as its track."""
        return tuple(Turn(**turn.model_dump()) for turn in self.estimate)


def store_turns(timeline: Timeline) -> tuple[StoredTurn, ...]:
    """Turns as they are stored, rounded to a tenth of a millisecond."""
    return tuple(
        StoredTurn(
            start=round(turn.start, 4),
            end=round(turn.end, 4),
            speaker=turn.speaker,
            confidence=None if turn.confidence is None else round(turn.confidence, 4),
        )
        for turn in timeline
    )


def write_timelines(folder: Path, timelines: Iterable[Timelines]) -> None:
    """Write the timelines of an evaluation; without any, no file is written and an old one is removed."""
    lines = [each.model_dump_json() + "\n" for each in timelines]
    if lines:
        write_text(folder / TIMELINES, "".join(lines))
    else:
        (folder / TIMELINES).unlink(missing_ok=True)


def read_timelines(folder: Path) -> dict[str, Timelines]:
    """The timelines of an evaluation by recording; none if its corpus does not know who talks when.

    Raises:
        ConfigError: If a line is not what this library wrote; the message names file and line.
    """
    path = folder / TIMELINES
    if not path.is_file():
        return {}
    found = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        where = f"{path}, line {number}"
        timelines = parse(Timelines, parse_json(line, where), where)
        found[timelines.identifier] = timelines
    return found
