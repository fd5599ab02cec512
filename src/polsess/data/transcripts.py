"""What is said in a recording, and the STM format (NIST sclite) that transcripts are exchanged in."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from polsess.timelines import read_seconds

_FIELDS = 6
_MAX_BYTES = 1 << 24
_ROUNDING_SECONDS = 0.1
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")


class TranscriptError(ValueError):
    """A transcript cannot be read; the message names the file and the line."""


@dataclass(frozen=True)
class Segment:
    """What one speaker says from one time to another."""

    speaker: str
    start: float
    """In seconds from the beginning of the recording; not a number where it is not known."""
    end: float
    text: str

    @property
    def has_times(self) -> bool:
        """Whether it is known when it is said."""
        return math.isfinite(self.start) and math.isfinite(self.end)


Transcript = tuple[Segment, ...]


def plain_words(text: str) -> str:
    """A text as it is compared: words in lower case without punctuation, one space between them."""
    text = unicodedata.normalize("NFC", text).replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    return " ".join(_WORD.findall(text.casefold()))


def find_text(sound: Path) -> str:
    """What is said in a clip, from the files beside it; empty where there is none.

    Read are ``<name>.normalized.txt`` (LibriTTS), ``<name>.txt``, and the clip's line of
    ``<chapter>.trans.txt`` (LibriSpeech).

    Raises:
        TranscriptError: If such a file is no text.
    """
    for suffix in (".normalized.txt", ".txt"):
        if (path := sound.with_suffix(suffix)).is_file():
            return _read_text(path)
    chapter = sound.with_name(f"{sound.stem.rpartition('-')[0]}.trans.txt")
    return _read_lines_by_name(chapter).get(sound.stem, "") if chapter.is_file() else ""


@lru_cache(maxsize=8)
def _read_lines_by_name(path: Path) -> dict[str, str]:
    lines = (line.partition(" ") for line in _read_text(path).splitlines())
    return {name: text for name, _, text in lines}


def _read_text(path: Path) -> str:
    if path.stat().st_size > _MAX_BYTES:
        raise TranscriptError(f"{path}: is larger than {_MAX_BYTES} bytes, the limit for a transcript.")
    try:
        return path.read_text(encoding="utf-8-sig").strip()
    except UnicodeDecodeError:
        raise TranscriptError(f"{path}: is no text in UTF-8.") from None


def read_stm(path: Path, recordings: Collection[str], seconds: float = math.inf) -> Transcript:
    """The transcript of one recording.

    Args:
        path: An STM file: ``recording channel speaker start end [<label>] text`` per line; empty lines and
            comments (``;;``) are passed over.
        recordings: What its first field may call the recording.
        seconds: Length of the recording; what is said after it by more than rounding is wrong.

    Raises:
        FileNotFoundError: If there is no such file.
        TranscriptError: If a line is wrong, or of another recording; the message names file and line.
    """
    found = []
    for number, line in enumerate(_read_text(path).splitlines(), start=1):
        if line.strip() and not line.startswith(";;"):
            try:
                found.append(_read_line(line, recordings, seconds))
            except ValueError as error:
                raise TranscriptError(f"{path}, line {number}: {error}") from None
    return tuple(sorted(found, key=lambda segment: (segment.start, segment.end)))


def _read_line(line: str, recordings: Collection[str], seconds: float) -> Segment:
    fields = line.split(maxsplit=_FIELDS - 1)
    if len(fields) < _FIELDS - 1:
        raise ValueError(
            f"expected recording, channel, speaker, start, end and text; got {len(fields)} fields."
        )
    name, _, speaker, *times = fields[: _FIELDS - 1]
    if name not in recordings:
        expected = "' or '".join(sorted(recordings))
        raise ValueError(f"is of the recording '{name}', expected '{expected}'.")
    start, end = map(read_seconds, times)
    if not start < end <= seconds + _ROUNDING_SECONDS:
        raise ValueError(f"expected times that rise up to {seconds:.2f} s, got {start:g} and {end:g}.")
    text = fields[_FIELDS - 1] if len(fields) == _FIELDS else ""
    label, _, rest = text.partition(" ")
    return Segment(speaker, start, end, rest if label.startswith("<") and label.endswith(">") else text)


def write_stm(transcript: Transcript, recording: str) -> str:
    """An STM file of one recording, which ``read_stm`` reads; times to the millisecond."""
    lines = (f"{recording} 1 {one.speaker} {one.start:.3f} {one.end:.3f} {one.text}\n" for one in transcript)
    return "".join(lines)
