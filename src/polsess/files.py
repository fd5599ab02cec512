"""Files: written so that a reader finds the old content or the new; JSON read within limits."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from polsess.config_error import ConfigError
from polsess.publication import atomic_files

MAX_JSON_BYTES = 1 << 20
MAX_JSON_DEPTH = 64


@contextlib.contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """A temporary path beside ``target`` that replaces it when the block ends well.

    The content is flushed to disk before the rename, so a crash or a full disk leaves the old file as it
    was; on an error the temporary file is removed. A symbolic link is resolved, not replaced.

    Args:
        target: The file to write. Its folder is made if needed.

    Raises:
        OSError: If it cannot be written; it names the target and says what helps.
    """
    with atomic_files([target]) as (temporary,):
        yield temporary


def check_folder(folder: Path) -> Path:
    """Find out before the work whether files can be written to a folder, which need not be there yet.

    Returns:
        The folder, or the nearest one above it that is there.

    Raises:
        OSError: If it is a file, or nothing may be written there.
    """
    place = folder.absolute()
    while not os.path.lexists(place):
        place = place.parent
    if not place.exists():
        message = "is a link to nothing; remove it or choose another place"
        raise FileNotFoundError(errno.ENOENT, message, str(place))
    if not place.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "is a file; choose a folder", str(place))
    if not os.access(place, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, "nothing may be written there; choose another place", str(place))
    return place


def check_target(target: Path) -> None:
    """Find out before the work whether a file can be written.

    Raises:
        OSError: If a folder has its name, or nothing may be written there.
    """
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, "is a folder; name a file", str(target))
    check_folder(target.parent)


def write_text(target: Path, text: str) -> None:
    """Write a UTF-8 text file atomically; bytes of file names that are not UTF-8 stay as they are."""
    write_texts({target: text})


def write_texts(texts: Mapping[Path, str], *, overwrite: bool = True) -> None:
    """Write text files that belong together, each as ``write_text`` does: all of them appear, or none.

    Args:
        texts: The text of every file.
        overwrite: Whether files that exist are replaced.

    Raises:
        FileExistsError: If a file exists and ``overwrite`` is false.
        OSError: If a file cannot be written; it names the file and says what helps.
    """
    with atomic_files(list(texts), overwrite=overwrite) as paths:
        for path, text in zip(paths, texts.values(), strict=True):
            path.write_text(text, encoding="utf-8", errors="surrogateescape")


def read_json(
    path: Path,
    *,
    expected: type[dict[str, Any]] | type[list[Any]] | None = dict,
    max_bytes: int = MAX_JSON_BYTES,
    max_depth: int = MAX_JSON_DEPTH,
) -> Any:
    """Read a JSON file that somebody else may have written.

    Args:
        path: The file, UTF-8 with or without a byte order mark.
        expected: ``dict`` for an object, ``list`` for an array, None for any value.
        max_bytes: Largest size of the file.
        max_depth: Most levels of objects and arrays.

    Raises:
        ConfigError: If the file is larger, deeper, not JSON, or holds another kind of value; the message
            starts with the path.
        OSError: If it cannot be read.
    """
    with path.open("rb") as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise ConfigError(f"{path}: larger than {max_bytes} bytes, the limit for such a file.")
    return parse_json(content, str(path), expected=expected, max_depth=max_depth)


def show_bytes(content: bytes) -> str:
    """The beginning of a file for a message: as text where it is printable ASCII, else in hexadecimal."""
    text = content.decode("latin-1")
    return f"'{text}'" if text.isascii() and text.isprintable() else f"the bytes {content.hex(' ')}"


def parse_json(
    content: str | bytes,
    where: str,
    *,
    expected: type[dict[str, Any]] | type[list[Any]] | None = dict,
    max_depth: int = MAX_JSON_DEPTH,
) -> Any:
    """As ``read_json``, from text, e.g. one line of a journal.

    A key that is given twice and numbers that are not of JSON (NaN, Infinity) are refused.

    Args:
        content: The text.
        where: File, and line where there are several; starts every message.
        expected: ``dict`` for an object, ``list`` for an array, None for any value.
        max_depth: Most levels of objects and arrays.

    Raises:
        ConfigError: If the text is not JSON, too deep, or holds another kind of value.
    """
    try:
        text = content if isinstance(content, str) else content.decode("utf-8-sig")
        data = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where}: not readable as JSON ({error}).") from None
    if expected is not None and not isinstance(data, expected):
        kinds: dict[type, str] = {dict: "an object", list: "an array"}
        raise ConfigError(f"{where}: expected {kinds[expected]}, got {data!r:.60}.")
    if _depth(data) > max_depth:
        raise ConfigError(f"{where}: more than {max_depth} levels of objects and arrays.")
    return data


def _refuse_constant(word: str) -> None:
    raise ValueError(f"{word} is not a number of JSON")


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key[:80]!r} is given twice")
        found[key] = value
    return found


def _depth(data: Any) -> int:
    deepest, stack = 0, [(data, 1)]
    while stack:
        value, depth = stack.pop()
        if isinstance(value, dict | list):
            deepest = max(deepest, depth)
            stack += [(child, depth + 1) for child in (value.values() if isinstance(value, dict) else value)]
    return deepest


def version_of(path: Path) -> str:
    """Size and time of the last change of a file, as a text; empty if there is no such file."""
    try:
        facts = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return ""
    return f"{facts.st_size} {facts.st_mtime_ns}"


def sha256(path: Path) -> str:
    """The SHA-256 digest of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
