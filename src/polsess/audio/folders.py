"""Sound files in folders: one search for every command and corpus."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from polsess.audio import ffmpeg
from polsess.text_tables import counted

_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".w64", ".rf64"})
_SHOWN = 5


@dataclass(frozen=True)
class FoundSounds:
    """Contents of a folder."""

    paths: list[Path] = field(default_factory=list)
    """Sound files, in the order of their names."""
    others: Counter[str] = field(default_factory=Counter)
    """Numbers of other files by suffix."""

    def note(self) -> str | None:
        """A line on the files of other kinds; None if there are none."""
        if not self.others:
            return None
        kinds = ", ".join(f"{suffix or 'no suffix'} {n}" for suffix, n in self.others.most_common(_SHOWN))
        more = ", …" if len(self.others) > _SHOWN else ""
        remedy = " (install ffmpeg to read them)" if set(self.others) & ffmpeg.SUFFIXES else ""
        return f"{counted(self.others.total(), 'file')} of other kinds passed over: {kinds}{more}{remedy}."


def audio_suffixes() -> frozenset[str]:
    """Suffixes of the files that can be read on this machine."""
    return _SUFFIXES | ffmpeg.SUFFIXES if ffmpeg.find_ffmpeg() else _SUFFIXES


def is_hidden(name: str) -> bool:
    """Whether a file or folder is one that systems add, such as ``._a.wav`` or ``__MACOSX``."""
    return name.startswith(".") or name == "__MACOSX"


def list_sounds(
    folder: Path,
    *,
    deep: bool = True,
    leave_out: Path | None = None,
    on_error: Callable[[str], None] | None = None,
) -> FoundSounds:
    """List the sound files in a folder, without hidden ones; symbolic links are followed, each folder once.

    Args:
        folder: The folder.
        deep: Whether sub-folders are searched.
        leave_out: A folder below that is not searched.
        on_error: Called with a line for every folder that cannot be listed; None raises the error.

    Raises:
        OSError: If a folder cannot be listed.
    """
    return sort_sounds(_walk(folder, deep, os.path.realpath(leave_out) if leave_out else None, on_error))


def sort_sounds(paths: Iterable[Path]) -> FoundSounds:
    """Sort files by their names into sound files and others."""
    found, suffixes = FoundSounds(), audio_suffixes()
    for path in paths:
        suffix = path.suffix.lower()
        if suffix in suffixes:
            found.paths.append(path)
        else:
            found.others[suffix] += 1
    return found


def _walk(
    folder: Path, deep: bool, leave_out: str | None, on_error: Callable[[str], None] | None
) -> Iterator[Path]:
    """Files that are not hidden, those of a folder before those of its sub-folders."""

    def refuse(error: OSError) -> None:
        if on_error is None:
            raise error
        on_error(f"{error.filename}: cannot be listed: {error.strerror}.")

    seen = {os.path.realpath(folder)}
    for parent, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        yield from (Path(parent, name) for name in sorted(files) if not is_hidden(name))
        kept = []
        for name in sorted(folders) if deep else []:
            real = os.path.realpath(os.path.join(parent, name))  # noqa: PTH118
            if not is_hidden(name) and real != leave_out and real not in seen:
                seen.add(real)
                kept.append(name)
        folders[:] = kept
