"""Lists of recordings: a CSV or JSON lines of our own, or cuts and recordings of lhotse.

Ours have ``mixture``, a path, and may have ``identifier``, the name of the outputs, ``start_seconds`` and
``seconds``; other columns, such as references and ``split``, are left alone. Paths are those of objects
(``s3://``), or relative to the list's folder, to that folder's parent, or to the working folder. lhotse's
format is described at https://lhotse.readthedocs.io/en/latest/cuts.html.
"""

from __future__ import annotations

import gzip
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from polsess.files import parse_json
from polsess.object_storage import fetched, is_remote, shown
from polsess.schema import ConfigError

_SUFFIXES = (".csv", ".jsonl", ".jsonl.gz")
_MAX_LINE = 1 << 20
_OWN_SOURCES = {"file", "url"}
"""Of lhotse's kinds of sources: not those that run commands."""


@dataclass(frozen=True)
class Excerpt:
    """A part of a recording."""

    start_seconds: float = 0.0
    seconds: float | None = None
    """None for all that follows."""
    channels: tuple[int, ...] = ()
    """From 0; none for all."""

    def __str__(self) -> str:
        """As a media fragment (https://www.w3.org/TR/media-frags)."""
        end = "" if self.seconds is None else f",{self.start_seconds + self.seconds:.6g}"
        time = f"t={self.start_seconds:.6g}{end}" if self.start_seconds or end else ""
        return "&".join([*([time] if time else []), *(f"channel={each}" for each in self.channels)])


@dataclass(frozen=True)
class Listed:
    """A recording in a list."""

    source: Path
    name: str
    """Of its outputs, perhaps with folders."""
    excerpt: Excerpt | None = None
    seconds: float = 0.0
    """How long it is, as far as that is known."""


def is_manifest(path: Path) -> bool:
    """Whether a file is, by its name, a list of recordings."""
    return path.name.lower().endswith(_SUFFIXES)


def read_manifest(path: Path) -> list[Listed]:
    """Read a list of recordings.

    Raises:
        ValueError: If it is damaged, or a line of it cannot be met; names the file and the line.
        OSError: If it cannot be read.
    """
    with fetched(path) as file:
        lines = list(_read_csv(path, file) if path.suffix.lower() == ".csv" else _read_lines(path, file))
    if not lines:
        raise ConfigError(f"{shown(path)}: there is no recording in it.")
    return lines


def _read_csv(path: Path, file: Path) -> Iterator[Listed]:
    from polsess.data.tables import read_csv

    try:
        rows = read_csv(file, ["mixture"])
    except ValueError as error:
        raise ConfigError(str(error).replace(str(file), shown(path))) from None
    for number, row in rows:
        yield _own(path, f"{shown(path)}, row {number}", {key: text for key, text in row.items() if text})


def _read_lines(path: Path, file: Path) -> Iterator[Listed]:
    opener: Any = gzip.open if path.suffix.lower() == ".gz" else open
    with opener(file, "rb") as lines:
        number = 0
        while True:
            number += 1
            where = f"{shown(path)}, line {number}"
            try:
                line = lines.readline(_MAX_LINE + 1)
            except (OSError, EOFError) as error:
                raise ConfigError(f"{where}: not readable ({error}).") from None
            if not line:
                return
            if len(line) > _MAX_LINE:
                raise ConfigError(f"{where}: longer than {_MAX_LINE} bytes.")
            if not line.strip():
                continue
            item = parse_json(line, where)
            yield _of_lhotse(path, where, item) if "mixture" not in item else _own(path, where, item)


def _own(path: Path, where: str, item: Mapping[str, Any]) -> Listed:
    source = _resolve(path, where, "mixture", item.get("mixture"))
    name = item.get("identifier", source.stem)
    start, seconds = _number(where, item, "start_seconds"), _number(where, item, "seconds")
    part = Excerpt(start or 0.0, seconds) if start or seconds is not None else None
    return Listed(source, _name(where, "identifier", name), part, seconds or 0.0)


def _of_lhotse(path: Path, where: str, item: Mapping[str, Any]) -> Listed:
    """A cut, or a recording as such."""
    recording = item.get("recording", item)
    if not isinstance(recording, dict) or not isinstance(recording.get("sources"), list):
        kind = item.get("type", "line")
        raise ConfigError(
            f"{where}: expected 'mixture', or a MonoCut, a MultiCut or a recording of lhotse, got a "
            f"{kind!r:.40}; save a MixedCut as sound first (cut.save_audio)."
        )
    if recording.get("transforms"):
        raise ConfigError(f"{where}: transforms of lhotse are not applied here; save the cut as sound first.")
    wanted = item.get("channel", [])
    channels = tuple(wanted) if isinstance(wanted, list) else (wanted,)
    if not all(isinstance(each, int) and 0 <= each < 1024 for each in channels):
        raise ConfigError(f"{where}: channel: expected numbers from 0, got {wanted!r:.40}.")
    source = _source_of(where, recording["sources"], channels)
    text = source.get("source")
    held = source.get("channels", [])
    inside = tuple(held.index(each) for each in channels)  # of the file
    if inside == tuple(range(len(held))):
        inside = ()
    start, seconds = _number(where, item, "start"), None
    whole = _number(where, recording, "duration")
    if "recording" in item:
        seconds = _number(where, item, "duration")
    if not start and seconds is not None and whole is not None and math.isclose(seconds, whole, abs_tol=1e-3):
        seconds = None
    part = Excerpt(start or 0.0, seconds, inside) if start or seconds is not None or inside else None
    known = seconds or _number(where, item, "duration") or whole or 0.0
    return Listed(_resolve(path, where, "source", text), _name(where, "id", item.get("id")), part, known)


def _source_of(where: str, sources: list[Any], channels: tuple[int, ...]) -> Mapping[str, Any]:
    """The one file that holds the channels."""
    fitting = [
        each
        for each in sources
        if isinstance(each, dict)
        and isinstance(each.get("channels"), list)
        and set(channels) <= {held for held in each["channels"] if isinstance(held, int)}
    ]
    if len(fitting) != 1:
        raise ConfigError(
            f"{where}: its channels are not those of one file ({len(fitting)} fit); save it as sound first."
        )
    if fitting[0].get("type") not in _OWN_SOURCES:
        raise ConfigError(
            f"{where}: sources of type {fitting[0].get('type')!r:.40} are not read; expected file or url."
        )
    return dict(fitting[0])


def _resolve(manifest: Path, where: str, key: str, text: Any) -> Path:
    if not isinstance(text, str) or not text.strip() or "\0" in text:
        raise ConfigError(f"{where}, {key}: expected a path, got {text!r:.60}.")
    path = Path(text)
    if is_remote(path):
        return path
    if "://" in text:
        raise ConfigError(f"{where}, {key}: {text[:80]}: of addresses, only s3:// is read.")
    if is_remote(manifest):
        return path if path.is_absolute() else manifest.parent / path
    from polsess.data.tables import resolve  # with torch, which nothing else here needs

    found = resolve(text, manifest.parent)
    return path.absolute() if not found.exists() and path.exists() else found


def _name(where: str, key: str, name: Any) -> str:
    """A name for outputs that stay within their folder."""
    good = isinstance(name, str) and name.isprintable() and 0 < len(name.encode("utf-8", "replace")) < 200
    if not good or PurePosixPath(name).is_absolute() or not {"..", "."}.isdisjoint(PurePosixPath(name).parts):
        raise ConfigError(f"{where}, {key}: {name!r:.80} cannot be the name of an output.")
    if PurePosixPath(name).name.startswith("."):
        raise ConfigError(f"{where}, {key}: {name!r:.80} would be a hidden file.")
    return str(name)


def _number(where: str, item: Mapping[str, Any], key: str) -> float | None:
    """A time in seconds; None where there is none."""
    given = item.get(key)
    if given is None:
        return None
    try:
        value = float(given) if isinstance(given, str | int | float) else math.nan
    except (ValueError, OverflowError):
        value = math.nan
    least = 0.0 if key.startswith("start") else 1e-3
    if not least <= value < 1e9:
        raise ConfigError(f"{where}, {key}: expected a number of seconds, got {given!r:.40}.")
    return value
