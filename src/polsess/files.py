"""Writing files so that a reader finds the old content or the new, never half of it."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """A temporary path beside ``target`` that replaces it when the block ends well.

    The content is flushed to disk before the rename, so a crash or a full disk leaves the old file as it
    was; on an error the temporary file is removed. A symbolic link is resolved, not replaced.

    Args:
        target: The file to write. Its folder is made if needed.
    """
    target = target.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.stem[:16]}-", suffix=target.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        _flush(temporary)
        temporary.replace(target)
        _flush(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """A temporary folder beside ``target`` that replaces it, with all it holds, when the block ends well.

    On an error the temporary folder is removed and the old one is as it was.

    Args:
        target: The folder to write. Its parent is made if needed.
    """
    target = target.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name[:64]}-"))
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        for path in temporary.iterdir():
            path.chmod(0o666 & ~_umask())
            _flush(path)
        _flush(temporary)
        _swap(temporary, target)
        _flush(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _swap(new: Path, target: Path) -> None:
    """Put ``new`` in the place of ``target``; the old content goes where ``new`` was."""
    if not target.exists():
        new.rename(target)
        return
    aside = new.with_name(f"{new.name}-old")
    target.rename(aside)
    try:
        new.rename(target)
    except OSError:
        aside.rename(target)
        raise
    aside.rename(new)  # removed with the temporary folder


def check_folder(folder: Path) -> None:
    """Find out before the work whether files can be written to a folder, which need not be there yet.

    Raises:
        OSError: If it is a file, or nothing may be written there.
    """
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    if not place.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "is a file; choose a folder", str(place))
    if not os.access(place, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, "nothing may be written there; choose another place", str(place))


def check_target(target: Path) -> None:
    """Find out before the work whether a file can be written.

    Raises:
        OSError: If a folder has its name, or nothing may be written there.
    """
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, "is a folder; name a file", str(target))
    check_folder(target.parent)


def write_text(target: Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    with atomic_path(target) as path:
        path.write_text(text, encoding="utf-8")


def sha256(path: Path) -> str:
    """The SHA-256 digest of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _flush(path: Path) -> None:
    """Force a file or a folder entry to disk."""
    if os.name == "nt" and path.is_dir():  # Windows cannot open folders
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
