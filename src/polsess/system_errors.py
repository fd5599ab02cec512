"""Errors of the operating system as one line: which file, what failed, what helps, what is kept."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

_ADVICE = {
    errno.ENOSPC: "No space left on the disk ({free} free); make room or choose another place",
    errno.EDQUOT: "The disk quota is used up; make room or choose another place",
    errno.EFBIG: "Larger than a file may be here (see `ulimit -f`, or the limit of the file system)",
    errno.EROFS: "The file system is read-only; choose another place",
    errno.EACCES: "Permission denied; change the rights or choose another place",
    errno.EPERM: "Operation not permitted; change the rights or choose another place",
    errno.EIO: "The disk or the network reported a failure (input/output error)",
    errno.EMFILE: "Too many open files; raise the limit, see `ulimit -n`",
    errno.ENFILE: "Too many open files in the whole system",
    errno.ENAMETOOLONG: "The name is too long for this file system; choose a shorter one",
    errno.ESTALE: "The network file system lost the file; try again",
    errno.EXDEV: "On another file system than its folder",
}
_FULL_BYTES = 1 << 16
_NUMBER = re.compile(r"os error (\d+)|\[Errno (\d+)\]")
_WRITING = re.compile(r"StreamWriter|write failed|error writing|system error|I/O error|unexpected pos", re.I)

_SHORTAGE = re.compile("can't allocate memory|out of memory|failed to map segment", re.I)
_ASKED = re.compile(r"llocate (?:(\d+) bytes|([\d.]+ [KMGT]iB))")


def system_error(
    error: BaseException, path: Path, names: Mapping[str, object] | None = None
) -> OSError | None:
    """The system's error behind an exception, as an ``OSError`` of the file that was asked for.

    Libraries hide it in errors of their own: the chain of causes is followed, a number in the text is read,
    and of an error that only says that writing failed, the likely cause is found by looking.

    Args:
        error: Exception raised while ``path`` was written or read.
        path: The file, by the name that the user knows.
        names: Names of temporary files that stand in for it. An error of another file stays as it is.

    Returns:
        The error, whose text says what helps; None if the exception is of another kind.
    """
    if isinstance(error, OSError) and error.filename is not None:
        shown = {str(path), *(names or {})}
        if not {os.fsdecode(name) for name in (error.filename, error.filename2) if name} & shown:
            return None
    number = next(_numbers(error), None)
    if number is None and not isinstance(error, OSError | ValueError) and _WRITING.search(str(error)):
        number = _likely_number(path)
    nameless = not isinstance(error, OSError) or error.filename is None
    if number is None or (nameless and number not in _ADVICE):
        return None
    advice = _ADVICE.get(number, os.strerror(number))
    return OSError(number, advice.format(free=free_space(path)), str(path))


def one_line(error: BaseException) -> str:
    """The text of an error; for one of the operating system, the file first and no number."""
    if isinstance(error, OSError) and error.strerror and isinstance(error.filename, str | Path):
        # Of two names the second is the one that was asked for, the first a temporary one.
        return f"{error.filename2 or error.filename}: {error.strerror[0].lower()}{error.strerror[1:]}."
    return str(error) or type(error).__name__


def shortage_of_memory(error: BaseException) -> str | None:
    """Say that memory ran out, and how much more was asked for where that is known.

    Args:
        error: Exception of Python, of torch or of the system's loader.

    Returns:
        A clause such as ``memory ran out (another 1.2 GB was asked for)``; None for another error.
    """
    text = str(error)
    if not isinstance(error, MemoryError) and not _SHORTAGE.search(text):
        return None
    asked = _ASKED.search(text)
    if asked is None:
        return "memory ran out"
    size = _size(int(asked[1])) if asked[1] else asked[2]
    return f"memory ran out (another {size} was asked for)"


@contextlib.contextmanager
def errors_named(path: Path, names: Mapping[str, object] | None = None) -> Iterator[None]:
    """Within the block, errors of the system that name no file name this one, and say what helps.

    Args:
        path: The only file that the block writes.
        names: Names of temporary files that stand in for it.

    Raises:
        OSError: As ``system_error`` gives it.
    """
    try:
        yield
    except Exception as error:
        known = system_error(error, path, names)
        if known is None:
            raise
        raise known from error


def check_space(folder: Path, num_bytes: int) -> None:
    """Find out before the work whether files fit on the disk.

    Args:
        folder: Where they will be; need not be there yet.
        num_bytes: Their sizes together.

    Raises:
        OSError: If there is less space.
    """
    if (free := _free_bytes(folder)) < num_bytes:
        message = (
            f"No space left on the disk for {_size(num_bytes)} ({_size(free)} free); make room or choose "
            "another place"
        )
        raise OSError(errno.ENOSPC, message, str(folder))


def _numbers(error: BaseException) -> Iterator[int]:
    """The numbers of the system's errors in a chain, the last raised first."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        if isinstance(current, OSError) and current.errno is not None:
            yield current.errno
        elif match := _NUMBER.search(str(current)):
            yield int(match[1] or match[2])
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)


def _likely_number(path: Path) -> int:
    """Find the likely reason of a failed write whose error does not name it."""
    if _free_bytes(path) < _FULL_BYTES:
        return errno.ENOSPC
    try:
        import resource
    except ImportError:  # Windows has no such limits
        return errno.EIO
    limited = resource.getrlimit(resource.RLIMIT_FSIZE)[0] != resource.RLIM_INFINITY
    return errno.EFBIG if limited else errno.EIO


def free_space(path: Path) -> str:
    """Room on the disk of a file or folder, which need not be there yet, e.g. ``1.2 GB``."""
    return _size(_free_bytes(path))


def _free_bytes(path: Path) -> int:
    for place in (path, *path.absolute().parents):
        if place.is_dir():
            return shutil.disk_usage(place).free
    return 0


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.1f} MB"
