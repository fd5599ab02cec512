"""The files of a timeline beside the tracks: RTTM, JSON, and on request ELAN, Audacity labels and a picture.

RTTM itself is in ``polsess.timelines``, since corpora and evaluations read it too.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from polsess.audio import Samples
from polsess.dependencies import require
from polsess.diarization import SpeakerTimeline
from polsess.inference.elan import format_elan
from polsess.inference.recordings import Recording
from polsess.pictures import draw_timeline
from polsess.timelines import (
    Timeline,
    Turn,
    list_speakers,
    sorted_timeline,
    subtract_spans,
    write_rttm,
    written_names,
)

TimelineFormat = Literal["elan", "audacity", "picture"]
"""Files that are written on request, besides RTTM and JSON."""
Writer = Callable[[Path], None]
"""Writes one file to the path that it is given."""

_ENDINGS: dict[str, str] = {
    "rttm": ".rttm",
    "json": ".json",
    "elan": ".eaf",
    "audacity": ".txt",
    "picture": "_timeline.png",
}


def parse_formats(text: str) -> tuple[TimelineFormat, ...]:
    """The formats in a list that is divided by commas.

    Raises:
        ValueError: If there is no such format.
        ModuleNotFoundError: If one needs a library that is not installed.
    """
    known: tuple[TimelineFormat, ...] = get_args(TimelineFormat)
    words = [word.strip() for word in text.split(",") if word.strip()]
    if unknown := [word for word in words if word not in known]:
        raise ValueError(
            f"timeline: expected some of {', '.join(known)}, got '{unknown[0]}'; elan is .eaf, audacity "
            "labels; RTTM and JSON are always written."
        )
    if "picture" in words:
        require("matplotlib", "--timeline picture")
    return tuple(each for each in known if each in words)


@dataclass(frozen=True)
class Tracks:
    """What a timeline is of."""

    names: Sequence[str]
    """Of the speakers, in the order of the tracks."""
    paths: Sequence[Path]
    """One per track."""
    sample_rate: int
    """In Hz."""
    num_samples: int
    blocks: Callable[[], Iterable[Samples]]
    """Returns the recording from its start, ``[n]`` per block, for the picture."""
    recording: Path | None = None
    """The sound file; None for samples in memory."""
    title: str = ""
    """Name of the recording."""


@dataclass(frozen=True)
class TimelineFiles:
    """Where the files of a timeline go, and which there are."""

    base: Path
    """Their path without an ending."""
    formats: tuple[TimelineFormat, ...] = ()
    """Beside RTTM and JSON."""

    @classmethod
    def beside(
        cls, tracks: Sequence[Path], name: str, formats: tuple[TimelineFormat, ...] = ()
    ) -> TimelineFiles:
        """Files called ``name`` in the folder that holds all the tracks."""
        folder = Path(os.path.commonpath([track.absolute().parent for track in tracks]))
        if not any(track.is_absolute() for track in tracks):
            folder = Path(os.path.relpath(folder))
        return cls(folder / name, formats)

    @property
    def paths(self) -> dict[str, Path]:
        """The path of each file by its format."""
        kinds = ("rttm", "json", *self.formats)
        return {kind: self.base.with_name(self.base.name + _ENDINGS[kind]) for kind in kinds}

    def of(
        self, timeline: SpeakerTimeline, names: Sequence[str], tracks: Sequence[Path], recording: Recording
    ) -> dict[Path, Writer]:
        """As ``writers``, for a recording in a file."""
        source = Path(recording.name)
        described = Tracks(
            names,
            tracks,
            recording.sample_rate,
            recording.num_samples,
            lambda: (block[0] for block in recording.blocks("mix")),
            source,
            source.name,
        )
        return self.writers(timeline, described)

    def writers(self, timeline: SpeakerTimeline, tracks: Tracks) -> dict[Path, Writer]:
        """A function for each path that writes the file to where it is told."""
        turns = timeline.turns
        paths = self.paths

        def picture(path: Path) -> None:
            draw_timeline(
                tracks.blocks(),
                tracks.sample_rate,
                tracks.num_samples,
                turns,
                tracks.names,
                path,
                tracks.title,
            )

        texts: dict[str, Callable[[], str]] = {
            "rttm": lambda: write_rttm(turns, self.base.name),
            "json": lambda: format_json(timeline, tracks, self.base.parent),
            "elan": lambda: format_elan(turns, tracks.names, paths["elan"], tracks.recording),
            "audacity": lambda: format_audacity(turns),
        }
        return {
            path: picture if kind == "picture" else _text_writer(texts[kind]) for kind, path in paths.items()
        }


def _text_writer(text: Callable[[], str]) -> Writer:
    """Letters that UTF-8 cannot hold, as in names of files in other encodings, become question marks."""

    def write(path: Path) -> None:
        path.write_bytes(text().encode("utf-8", "replace"))

    return write


def format_json(timeline: SpeakerTimeline, tracks: Tracks, folder: Path) -> str:
    """All that is known of a timeline, in seconds rounded to milliseconds.

    Args:
        timeline: Who speaks when.
        tracks: The tracks of the speakers.
        folder: Where the document will be; paths of tracks are relative to it.
    """
    talk: dict[str, float] = dict.fromkeys(tracks.names, 0.0)
    for turn in timeline.turns:
        talk[turn.speaker] = talk.get(turn.speaker, 0.0) + turn.duration
    speech = sorted_timeline(Turn(turn.start, turn.end, "") for turn in timeline.turns)
    passed = (
        []
        if timeline.whole
        else subtract_spans([(turn.start, turn.end) for turn in speech], timeline.separated)
    )
    document: dict[str, Any] = {
        "recording": tracks.title,
        "sample_rate": tracks.sample_rate,
        "duration_seconds": round(timeline.duration_seconds, 3),
        "speakers": [
            {
                "name": name,
                "file": Path(os.path.relpath(path, folder)).as_posix(),
                "talks_seconds": round(talk[name], 3),
            }
            for name, path in zip(tracks.names, tracks.paths, strict=True)
        ],
        "turns": [
            {
                "speaker": turn.speaker,
                **_span(turn.start, turn.end),
                "confidence": None if turn.confidence is None else round(turn.confidence, 3),
            }
            for turn in timeline.turns
        ],
        "overlaps": [_span(*span) for span in timeline.overlaps],
        "separated_whole": timeline.whole,
        "separated": [_span(*span) for span in timeline.separated],
        "passed_through": [_span(*span) for span in passed],
        "network_seconds": round(timeline.network_seconds, 3),
        "saved_share": round(timeline.saved_share, 4),
        "swaps_repaired": timeline.swaps_repaired,
        "voices_found": timeline.voices_found or len(timeline.speakers),
        "note": timeline.note(),
        "settings": dict(timeline.settings),
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _span(start: float, end: float) -> dict[str, float]:
    return {"start": round(start, 3), "end": round(end, 3)}


def format_audacity(timeline: Timeline) -> str:
    """The label file of a timeline: start, end and speaker, divided by tabs, a line per turn.

    The format is described at https://manual.audacityteam.org/man/importing_and_exporting_labels.html.
    """
    names = written_names(list_speakers(timeline))
    return "".join(f"{turn.start:.6f}\t{turn.end:.6f}\t{names[turn.speaker]}\n" for turn in timeline)
