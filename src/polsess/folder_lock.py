"""One owner of a folder at a time: a lock file that says who it is, and whether its process still lives.

On the machine of its owner a lock is valid as long as that process lives. On other machines that share the
folder, and where the system does not list processes, it is valid as long as its owner renews it.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from polsess.files import read_json

LOCK = "lock.json"
"""The lock's file in the folder."""
_RENEWED_SECONDS = 15.0
_SILENT_SECONDS = 180.0
"""A lock that is not renewed for this long has no owner; clocks of machines may differ by less."""
_PROCESSES = Path("/proc")


class FolderInUseError(RuntimeError):
    """Another process writes to the folder; the message names it."""


@dataclass(frozen=True)
class Owner:
    """The process that holds a folder."""

    purpose: str
    """The command, e.g. ``polsess train``."""
    host: str
    process: int
    since: str
    """UTC, ISO 8601."""
    process_start: str | None
    """When the system started the process; a later process of the same number has another time."""
    system: str
    """The running system that numbered the process: a boot and a namespace of processes."""
    token: str
    """Random text that no other lock has."""

    def __str__(self) -> str:
        return f"{self.purpose} on {self.host} (process {self.process}, since {self.since})"


@contextmanager
def locked(folder: Path, purpose: str) -> Iterator[None]:
    """Hold a folder within the block; it is made if needed, and removed again if nothing is written to it.

    Args:
        folder: The folder.
        purpose: The command, for the message to others.

    Raises:
        FolderInUseError: If another living process holds it.
        OSError: If the folder cannot be written.
    """
    new = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK
    owner = Owner(purpose, platform.node(), os.getpid(), _now(), _start_of(os.getpid()), _system(), _token())
    try:
        _acquire(path, owner)
        with _renewed(path):
            yield
    finally:
        if _read(path) == owner:
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # something was written
            for each in new:
                each.rmdir()


def find_owner(folder: Path) -> Owner | None:
    """The living process that holds a folder; None if there is none."""
    path = folder / LOCK
    owner = _read(path)
    return owner if owner is not None and _lives(owner, path) else None


def _acquire(path: Path, owner: Owner) -> None:
    while True:
        try:
            with path.open("x", encoding="utf-8") as file:  # fails if another process was faster
                json.dump(asdict(owner), file)
            return
        except FileExistsError:
            found = _read(path)
            if _lives(found, path):
                raise FolderInUseError(
                    f"{path.parent}: in use by {found or 'another process'}. Wait for it, stop it, or choose "
                    "another folder."
                ) from None
            _remove_stale(path, found)


def _remove_stale(path: Path, stale: Owner | None) -> None:
    """Take a dead process's lock away, but not that of a process that has done the same meanwhile."""
    aside = path.with_name(f".{path.stem}-{_token()}.json")
    with contextlib.suppress(FileNotFoundError):
        path.rename(aside)
        if _read(aside) != stale and not path.exists():
            aside.rename(path)
        aside.unlink(missing_ok=True)


@contextmanager
def _renewed(path: Path) -> Iterator[None]:
    over = threading.Event()

    def renew() -> None:
        while not over.wait(_RENEWED_SECONDS):
            with contextlib.suppress(OSError):
                os.utime(path)

    thread = threading.Thread(target=renew, name="lock", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _lives(owner: Owner | None, path: Path) -> bool:
    if owner is not None and owner.process_start is not None and owner.system == _system():
        return _start_of(owner.process) == owner.process_start
    try:
        return time.time() - path.stat().st_mtime < _SILENT_SECONDS
    except OSError:
        return False  # removed meanwhile


def _read(path: Path) -> Owner | None:
    """The owner in a lock file; None if it is not there, or not whole (yet)."""
    try:
        owner = Owner(**read_json(path))
    except (OSError, ValueError, TypeError):
        return None
    whole = isinstance(owner.process, int) and str(owner).isprintable()
    return owner if whole else None


def _start_of(process: int) -> str | None:
    """Start of a process, in the system's own count; None if it is dead or the system lists none."""
    try:
        state, *fields = (_PROCESSES / str(process) / "stat").read_text().rpartition(")")[2].split()
    except (OSError, ValueError):
        return None
    return None if state in "ZX" else fields[18]


def _system() -> str:
    try:
        boot = (_PROCESSES / "sys/kernel/random/boot_id").read_text().strip()
        return f"{platform.node()} {boot} {(_PROCESSES / 'self/ns/pid').readlink()}"
    except OSError:
        return platform.node()


def _token() -> str:
    return uuid.uuid4().hex


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
