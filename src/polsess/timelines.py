"""Who speaks when: turns with times in seconds, and the RTTM format that the field exchanges them in.

RTTM: NIST, "The 2009 (RT-09) Rich Transcription Meeting Recognition Evaluation Plan", appendix A.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

JOIN_SECONDS = 0.2
"""Shorter pauses within one speaker's talk belong to the turn."""
_ROUNDING_SECONDS = 0.1
"""Turns of other tools may end this much after their recording."""
_OTHER_TYPES = re.compile(
    "SEGMENT|NOSCORE|NO_RT_METADATA|LEXEME|NON-LEX|NON-SPEECH|FILLER|EDIT|IP|SU|CB|A/P|SPKR-INFO"
)
"""Types of lines of NIST's RTTM that say nothing of turns."""
_FIELDS = 9
"""Fields that an RTTM line has at least; the tenth, the look-ahead, is often left out."""
_UNWRITABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class TimelineError(ValueError):
    """A timeline cannot be read; the message names the file and the line."""


@dataclass(frozen=True, order=True)
class Turn:
    """One stretch in which one speaker talks."""

    start: float
    """In seconds from the beginning of the recording."""
    end: float
    """In seconds; after the start."""
    speaker: str
    confidence: float | None = field(default=None, compare=False)
    """How sure it is that this speaker talks here, 0 to 1; None where nobody estimated it."""

    @property
    def duration(self) -> float:
        """In seconds."""
        return self.end - self.start


Timeline = tuple[Turn, ...]
"""The turns of one recording, by start; those of one speaker do not overlap."""


def sorted_timeline(turns: Iterable[Turn], *, join_seconds: float = 0.0) -> Timeline:
    """Sort turns by start and join those of one speaker that touch or overlap.

    Args:
        turns: In any order.
        join_seconds: Pauses within one speaker's talk up to this long are closed.
    """
    last: dict[str, Turn] = {}
    done: list[Turn] = []
    for turn in sorted(turns):
        before = last.get(turn.speaker)
        if before is not None and turn.start <= before.end + join_seconds:
            last[turn.speaker] = _joined(before, turn)
            continue
        if before is not None:
            done.append(before)
        last[turn.speaker] = turn
    return tuple(sorted([*done, *last.values()]))


def _joined(first: Turn, second: Turn) -> Turn:
    """Both turns of a speaker as one, as sure as they are on average."""
    confidence = None
    if first.confidence is not None and second.confidence is not None:
        weighted = first.confidence * first.duration + second.confidence * second.duration
        confidence = weighted / (first.duration + second.duration)
    return Turn(first.start, max(first.end, second.end), first.speaker, confidence)


def list_speakers(timeline: Timeline) -> tuple[str, ...]:
    """The speakers in the order in which they are first heard."""
    return tuple(dict.fromkeys(turn.speaker for turn in timeline))


def activity(
    timeline: Timeline, speakers: Sequence[str], num_frames: int, hop_seconds: float
) -> NDArray[np.bool_]:
    """Whether each speaker talks in the middle of each frame.

    Returns:
        ``[S, L]`` for S speakers and L frames.
    """
    frames = np.zeros((len(speakers), num_frames), np.bool_)
    row = {speaker: number for number, speaker in enumerate(speakers)}
    for turn in timeline:
        if turn.speaker in row:
            first, last = (max(0, math.ceil(time / hop_seconds - 0.5)) for time in (turn.start, turn.end))
            frames[row[turn.speaker], first:last] = True
    return frames


def turns_of(active: NDArray[np.bool_], speakers: Sequence[str], hop_seconds: float) -> Timeline:
    """The turns in which frames are active; the counterpart of ``activity``.

    Args:
        active: ``[S, L]``.
        speakers: S names.
        hop_seconds: From one frame to the next.
    """
    turns = []
    for speaker, row in zip(speakers, active, strict=True):
        edges = np.flatnonzero(np.diff(np.concatenate([[False], row, [False]]).astype(np.int8)))
        turns += [
            Turn(float(start * hop_seconds), float(end * hop_seconds), speaker)
            for start, end in edges.reshape(-1, 2)
        ]
    return tuple(sorted(turns))


def list_overlaps(timeline: Timeline) -> list[tuple[float, float]]:
    """Start and end in seconds of every stretch in which several talk."""
    edges = sorted([(turn.start, 1) for turn in timeline] + [(turn.end, -1) for turn in timeline])
    stretches: list[tuple[float, float]] = []
    talking, begin = 0, 0.0
    for time, change in edges:
        if (talking, change) == (1, 1):
            begin = time
        elif (talking, change) == (2, -1) and time > begin:
            stretches.append((begin, time))
        talking += change
    return stretches


def subtract_spans(
    stretches: Iterable[tuple[float, float]], holes: Sequence[tuple[float, float]]
) -> Iterator[tuple[float, float]]:
    """The parts of stretches that no hole covers; both by start and apart from each other."""
    index = 0
    for start, end in stretches:
        while index < len(holes) and holes[index][0] < end:
            first, last = holes[index]
            if start < first:
                yield start, first
            start = max(start, last)
            if last > end:
                break
            index += 1
        if start < end:
            yield start, end


def overlap_share(timeline: Timeline) -> float:
    """Time in which several talk over time in which anybody does; 0 for an empty timeline."""
    overlap = sum(end - start for start, end in list_overlaps(timeline))
    anybody = [Turn(turn.start, turn.end, "") for turn in timeline]
    speech = sum(turn.duration for turn in sorted_timeline(anybody))
    return overlap / speech if speech else 0.0


def conditions_of(timeline: Timeline) -> dict[str, str | float]:
    """Conditions to stratify by: ``voices``, how many talk, and ``overlap``, when several do, a share."""
    return {"voices": str(len(list_speakers(timeline))), "overlap": round(overlap_share(timeline), 3)}


def write_rttm(timeline: Timeline, recording: str) -> str:
    """The lines of an RTTM file.

    Args:
        timeline: Turns; spaces in names become underscores, since fields are divided by them.
        recording: The file's name in the second field.
    """
    name = "_".join(plain_text(recording).split()) or "recording"
    speakers = written_names(list_speakers(timeline), between="_")
    return "".join(
        f"SPEAKER {name} 1 {turn.start:.3f} {turn.duration:.3f} <NA> <NA> "
        f"{speakers[turn.speaker]} {_confidence(turn)} <NA>\n"
        for turn in timeline
    )


def _confidence(turn: Turn) -> str:
    return "<NA>" if turn.confidence is None else f"{turn.confidence:.3f}"


def written_names(speakers: Sequence[str], between: str = " ") -> dict[str, str]:
    """Names as every format can hold them, by speaker; those that become alike are numbered.

    Args:
        speakers: All different.
        between: What stands for white space, line breaks and tabs.
    """
    names: dict[str, str] = {}
    for speaker in speakers:
        plain = between.join(plain_text(speaker).split()) or "speaker"
        candidate, number = plain, 1
        while candidate in names.values():
            number += 1
            candidate = f"{plain}{between}{number}"
        names[speaker] = candidate
    return names


def plain_text(text: str) -> str:
    """Text in which letters that neither XML 1.0 nor UTF-8 can hold are replaced."""
    return _UNWRITABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def crop_timeline(timeline: Timeline, start: float, end: float) -> Timeline:
    """The turns between two times, counted from the first."""
    return tuple(
        replace(turn, start=max(turn.start, start) - start, end=min(turn.end, end) - start)
        for turn in timeline
        if turn.end > start and turn.start < end
    )


def read_rttm(
    path: Path, *, recordings: Collection[str] | None = None, seconds: float = math.inf
) -> dict[str, Timeline]:
    """The timelines of an RTTM file by recording.

    Args:
        path: A text file; empty lines, comments (``;``) and RTTM's other types than SPEAKER are passed
            over.
        recordings: Names that recordings may have; None for any.
        seconds: Length of the recordings; turns that go on after it by more than rounding are wrong.

    Raises:
        FileNotFoundError: If there is no such file.
        TimelineError: If a line is wrong; the message names file and line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise TimelineError(f"{path}: is no text in UTF-8, as RTTM is.") from None
    turns: dict[str, list[Turn]] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        fields = line.split()
        if not fields or fields[0].startswith(";") or _OTHER_TYPES.fullmatch(fields[0]):
            continue
        if fields[0] != "SPEAKER":
            raise TimelineError(
                f"{path}, line {number}: expected a line of RTTM, which begins with SPEAKER, got "
                f"'{fields[0][:40]}'."
            )
        if len(fields) < _FIELDS:
            raise TimelineError(
                f"{path}, line {number}: expected at least {_FIELDS} fields (SPEAKER file channel start "
                f"duration <NA> <NA> speaker <NA>), got {len(fields)}."
            )
        if recordings is not None and fields[1] not in recordings:
            expected = "' or '".join(sorted(recordings))
            raise TimelineError(
                f"{path}, line {number}: is of the recording '{fields[1]}', expected '{expected}'."
            )
        try:
            start, duration = read_seconds(fields[3]), read_seconds(fields[4])
        except ValueError as error:
            raise TimelineError(f"{path}, line {number}: {error}") from None
        if start + duration > seconds + _ROUNDING_SECONDS:
            raise TimelineError(
                f"{path}, line {number}: ends at {start + duration:.2f} s, the recording at {seconds:.2f} s."
            )
        end = min(start + duration, seconds)
        if end > start:
            turn = Turn(start, end, fields[7], _read_confidence(fields[8]))
            turns.setdefault(fields[1], []).append(turn)
    return {recording: sorted_timeline(found) for recording, found in turns.items()}


def _read_confidence(text: str) -> float | None:
    """A confidence from 0 to 1; other programs write other things there, which are passed over."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value <= 1 else None


def read_seconds(text: str) -> float:
    """A time of a file in seconds.

    Raises:
        ValueError: If it is no number from 0 up.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise ValueError(f"expected seconds from 0 up, got '{text}'.")
    return value
