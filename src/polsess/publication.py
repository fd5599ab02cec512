"""Files that appear together: written under hidden names, flushed, then renamed, or else nothing changed.

A process that is killed leaves hidden files, whose names hold its host and number. The next command that
writes to the folder finishes what had begun to appear, and removes the rest.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import json
import os
import re
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from polsess.interruption import uninterrupted
from polsess.system_errors import system_error

_HOST = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]
_HIDDEN = re.compile(r"\.polsess-(?P<host>[0-9a-f]{8})-(?P<process>\d{1,10})-\w+(?P<end>(\.\w+)?)")
_JOURNAL = ".journal"
_FOREIGN_SECONDS = 7 * 86400
"""Age at which hidden files of another host count as left behind."""
_AT_WORKING_FOLDER, _EXCHANGE = -100, 2
_swept: set[Path] = set()
_reading_umask = threading.Lock()


@contextlib.contextmanager
def atomic_files(targets: Sequence[Path], *, overwrite: bool = True) -> Iterator[list[Path]]:
    """Temporary paths beside several targets, all of which appear when the block ends well, or none.

    On an error in the block, at the flush or between two renames, every target is as it was, and no folder
    is left that was made for it. A symbolic link is resolved, not replaced.

    Args:
        targets: The files to write. Their folders are made if needed.
        overwrite: Whether files that exist are replaced; else the first of them is an error, also if another
            process made it meanwhile.

    Raises:
        FileExistsError: If a target exists and ``overwrite`` is false.
        ValueError: If two targets are one file.
        OSError: If a file cannot be written; it names the target and says what helps.
    """
    places = [target.resolve() for target in targets]
    _refuse_one_file_twice(targets, places)
    temporaries: list[Path] = []
    made: list[Path] = []
    target = places[0] if places else Path()
    try:
        for target in places:
            made += _make_folder(target.parent)
            sweep_once(target.parent)
            with uninterrupted():
                temporaries.append(_hidden(target.parent, target.suffix))
        yield list(temporaries)
        for temporary, target in zip(temporaries, places, strict=True):  # noqa: B007 - named in errors
            temporary.chmod(0o666 & ~_umask())
            flush(temporary)
        with uninterrupted():
            _appear(temporaries, places, overwrite)
    except Exception as error:
        named = dict(zip(map(str, temporaries), places, strict=False))
        known = system_error(error, named.get(str(getattr(error, "filename", None)), target), named)
        if known is None:
            raise
        raise known from error
    finally:
        with uninterrupted():
            for temporary in temporaries:
                temporary.unlink(missing_ok=True)
            _remove_empty(made)


@contextlib.contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """A temporary folder beside ``target`` that replaces it, with all it holds, when the block ends well.

    On an error the temporary folder is removed and the old one is as it was.

    Args:
        target: The folder to write. Its parent is made if needed.

    Raises:
        OSError: If a file cannot be written; it names the target and says what helps.
    """
    target = target.resolve()
    temporary = target
    try:
        with temporary_folder(target.parent) as temporary:
            yield temporary
            for path in (*temporary.rglob("*"), temporary):
                if not path.is_symlink():
                    path.chmod((0o777 if path.is_dir() else 0o666) & ~_umask())
                    flush(path)
            with uninterrupted():
                _swap(temporary, target)
                flush(target.parent)
    except Exception as error:
        inside = Path(str(getattr(error, "filename", None))).is_relative_to(temporary)
        known = system_error(error, target, {str(getattr(error, "filename", None)): target} if inside else {})
        if known is None:
            raise
        raise known from error


@contextlib.contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """A hidden folder for the time of the block; what a kill leaves of it, the next command removes.

    Args:
        parent: The folder that holds it, made if needed, and removed with it if nothing else is in it then.
    """
    made = _make_folder(parent)
    temporary: Path | None = None
    try:
        sweep_once(parent)
        with uninterrupted():
            temporary = Path(tempfile.mkdtemp(dir=parent, prefix=_prefix()))
        yield temporary
    finally:
        with uninterrupted():
            if temporary is not None:
                shutil.rmtree(temporary, ignore_errors=True)
            _remove_empty(made)


def sweep(folder: Path) -> None:
    """Finish or remove what killed processes left hidden in a folder, if there is such a folder."""
    left = [path for path in folder.glob(".polsess-*") if _is_left_behind(path)]
    for journal in [path for path in left if path.suffix == _JOURNAL]:
        with contextlib.suppress(OSError, ValueError):
            _finish(journal)
    for path in left:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


def sweep_once(folder: Path) -> None:
    """As ``sweep``, but nothing where this process has done so before."""
    if folder not in _swept:
        _swept.add(folder)
        sweep(folder)


def flush(path: Path) -> None:
    """Force a file or the entries of a folder to disk."""
    if os.name == "nt" and path.is_dir():  # Windows cannot open folders
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _make_folder(folder: Path) -> list[Path]:
    """Make a folder and those above it; the ones that were not there, the lowest first."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def _remove_empty(folders: Sequence[Path]) -> None:
    for folder in folders:
        with contextlib.suppress(OSError):  # which is how a folder says that it holds something
            folder.rmdir()


def _refuse_one_file_twice(targets: Sequence[Path], places: Sequence[Path]) -> None:
    for index, place in enumerate(places):
        for other in range(index):
            same = place == places[other] or (
                place.exists() and places[other].exists() and place.samefile(places[other])
            )
            if same:
                raise ValueError(f"{targets[index]} and {targets[other]} are one file; name two.")


def _appear(temporaries: Sequence[Path], places: Sequence[Path], overwrite: bool) -> None:
    """Rename all, or undo what was renamed. A journal lets the next command finish after a kill."""
    together = len(places) > 1
    asides: dict[Path, Path] = {}
    placed: list[Path] = []
    with contextlib.ExitStack() as journals:
        try:
            for folder in dict.fromkeys(place.parent for place in places) if together else ():
                names = [pair for pair in zip(temporaries, places, strict=True) if pair[1].parent == folder]
                journals.enter_context(_journal(folder, names, overwrite))
            for temporary, place in zip(temporaries, places, strict=True):
                if overwrite and together and place.exists():
                    asides[place] = _second_name(place)
                if overwrite:
                    temporary.replace(place)
                else:
                    _place_new(temporary, place)
                placed.append(place)
        except BaseException:
            for place in placed:
                if place in asides:
                    asides[place].replace(place)
                else:
                    place.unlink(missing_ok=True)
            raise
        finally:
            for aside in asides.values():
                aside.unlink(missing_ok=True)
    for folder in {place.parent for place in places}:
        flush(folder)


def _second_name(path: Path) -> Path:
    """A hidden name of the same file, or a copy where the file system has no second names."""
    other = _hidden(path.parent, ".old")
    other.unlink()
    try:
        other.hardlink_to(path)
    except OSError:
        shutil.copy2(path, other)
    return other


def _place_new(temporary: Path, place: Path) -> None:
    """Rename without replacing: of two processes that write one name, the second gets an error."""
    try:
        place.hardlink_to(temporary)
    except FileExistsError:
        raise FileExistsError(errno.EEXIST, "exists already", str(place)) from None
    except OSError:  # no second names on this file system
        if place.exists():
            raise FileExistsError(errno.EEXIST, "exists already", str(place)) from None
        temporary.rename(place)
    else:
        temporary.unlink()


@contextlib.contextmanager
def _journal(folder: Path, names: Sequence[tuple[Path, Path]], overwrite: bool) -> Iterator[None]:
    """A file that records, while names are being given, which hidden file gets which name."""
    journal = _hidden(folder, _JOURNAL)
    try:
        plain = {"overwrite": overwrite, "names": [(hidden.name, place.name) for hidden, place in names]}
        journal.write_text(json.dumps(plain), encoding="utf-8")
        flush(journal)
        yield
    finally:
        journal.unlink(missing_ok=True)


def _finish(journal: Path) -> None:
    """Give the files of a killed process, all of which were flushed, their names."""
    content = json.loads(journal.read_text(encoding="utf-8")[: 1 << 20])
    for hidden, name in content["names"]:
        if Path(name).name != name or not _HIDDEN.fullmatch(hidden):
            raise ValueError(f"{journal}: names a file elsewhere")
        temporary, place = journal.parent / hidden, journal.parent / name
        if temporary.is_symlink() or not temporary.exists():
            continue
        if content["overwrite"]:
            temporary.replace(place)
        elif not place.exists():
            _place_new(temporary, place)


def _swap(new: Path, target: Path) -> None:
    """Put ``new`` in the place of ``target``; the old content goes where ``new`` was."""
    if not target.exists():
        new.rename(target)
    elif not _exchange(new, target):
        aside = new.with_name(f"{new.name}_old")
        with _journal(target.parent, [(new, target)], overwrite=True):
            target.rename(aside)
            try:
                new.rename(target)
            except OSError:
                aside.rename(target)
                raise
            aside.rename(new)  # removed with the temporary folder


def _exchange(first: Path, second: Path) -> bool:
    """Exchange two names in one step, where the system can."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError, TypeError):
        return False
    names = (os.fsencode(first), os.fsencode(second))
    failed: int = rename(_AT_WORKING_FOLDER, names[0], _AT_WORKING_FOLDER, names[1], _EXCHANGE)
    return failed == 0


def _prefix() -> str:
    return f".polsess-{_HOST}-{os.getpid()}-"


def _hidden(folder: Path, suffix: str) -> Path:
    ending = suffix if re.fullmatch(r"\.\w+", suffix) else ""
    handle, name = tempfile.mkstemp(dir=folder, prefix=_prefix(), suffix=ending)
    os.close(handle)
    return Path(name)


def _is_left_behind(path: Path) -> bool:
    match = _HIDDEN.fullmatch(path.name)
    if match is None:
        return False
    if match["host"] != _HOST or os.name == "nt":
        try:
            return time.time() - path.lstat().st_mtime > _FOREIGN_SECONDS
        except OSError:
            return False
    try:
        os.kill(int(match["process"]), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False


def _umask() -> int:
    with _reading_umask:  # of the whole process, and there is no way to read it but to change it
        mask = os.umask(0)
        os.umask(mask)
    return mask
