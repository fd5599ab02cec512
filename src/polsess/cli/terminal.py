"""Messages of every command on stderr, and exit codes."""

from __future__ import annotations

import codecs
import contextlib
import errno
import functools
import io
import os
import sys
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any, TextIO

from polsess.system_errors import one_line, shortage_of_memory

if TYPE_CHECKING:
    from collections.abc import Collection

    from rich.console import Console
    from rich.progress import Progress
    from typer import Context

_FILE_WIDTH = 200
_UNPRINTABLE = "polsess.unprintable"
_GONE = {errno.EPIPE, errno.EIO}
"""Errors of a stream whose reader is gone; EIO is a closed terminal's."""
_LESS_MEMORY = (
    "Raise the limit (`ulimit -v`, a container's), or ask for less: shorter pieces (separate --segment), "
    "fewer processes (--jobs, --workers, data.num_workers), a smaller data.batch_size."
)


class ExitCode(IntEnum):
    """How a command ended; scripts may rely on these numbers."""

    DONE = 0
    SOME_FAILED = 1
    """Some inputs failed and are listed; the others were processed."""
    USAGE = 2
    """The command line or a configuration is wrong."""
    MODEL = 3
    """A model or its weights cannot be used."""
    INTERRUPTED = 130


class Failure(Exception):
    """Ends a command with one message and a chosen exit code."""

    def __init__(self, message: str, code: ExitCode = ExitCode.SOME_FAILED) -> None:
        super().__init__(message)
        self.code = code


def refuse(context: Context, options: Collection[str], reason: str) -> None:
    """End a command in which an option was given that it would ignore.

    Args:
        context: Of the command.
        options: Names such as ``--collar``.
        reason: What the message says after the option.

    Raises:
        Failure: If one of them stands on the command line.
    """
    for parameter in context.command.params:
        origin = context.get_parameter_source(parameter.name or "")
        names = set(options).intersection(parameter.opts)
        if names and origin is not None and origin.name != "DEFAULT":
            raise Failure(f"{min(names)}: {reason}", ExitCode.USAGE)


def explain(error: BaseException) -> str:
    """An error in one line; for an operating-system error, the file first and no error number."""
    ours = type(error).__module__.startswith("polsess.")  # says itself what helps
    if not ours and (shortage := shortage_of_memory(error)):
        return f"{shortage[0].upper()}{shortage[1:]}: the program alone takes about 0.7 GB. {_LESS_MEMORY}"
    if "could not create a primitive" in str(error):  # oneDNN's recurrent layers without AVX-512
        return (
            "This processor cannot compute a layer of the network in the 16 bits that were asked for: take "
            "auto or float32 (--precision, training.precision)."
        )
    return one_line(error)


class _LastingStream:
    """A standard stream that takes no more text, instead of an error, when its reader or terminal is gone."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.lost: OSError | None = None
        """The error that ended it, unless nobody was left to read."""

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError as error:
            self._give_up(error)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        """Discard all further output, including buffered text and whatever Python writes at exit."""
        if error.errno not in _GONE:
            self.lost = error
        with open(os.devnull, "w") as nowhere, contextlib.suppress(OSError, ValueError):  # noqa: PTH123
            os.dup2(nowhere.fileno(), self._stream.fileno())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def outlast_output() -> None:
    """Continue the work when the output's reader is gone, or its encoding lacks a letter of a file's name."""
    codecs.register_error(_UNPRINTABLE, _write_unprintable)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, _LastingStream):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors=_UNPRINTABLE)
            setattr(sys, name, _LastingStream(stream))


def _write_unprintable(error: UnicodeError) -> tuple[str | bytes, int]:
    """Names that are not UTF-8 as the bytes that they are; letters that the encoding lacks as escapes."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeEncodeError:
        return codecs.lookup_error("backslashreplace")(error)


def lost_output() -> OSError | None:
    """The error that cut stdout short for a reader who is still there, e.g. a file on a full disk."""
    if not isinstance(sys.stdout, _LastingStream):
        return None
    sys.stdout.flush()
    return sys.stdout.lost


def create_page() -> Console:
    """Console for tables: as wide as the terminal; in a file, wide enough for whole names."""
    from rich.console import Console

    page = Console(highlight=False, markup=False, emoji=False)
    if not page.is_terminal and "COLUMNS" not in os.environ:
        page.width = _FILE_WIDTH
    return page


@dataclass(frozen=True)
class Terminal:
    """The options of the whole program and its messages; commands find it in ``context.obj``.

    Results go to stdout, everything here to stderr.
    """

    quiet: bool = False
    """Errors only."""
    debug: bool = False
    """Tracebacks instead of one-line errors."""

    @functools.cached_property
    def console(self) -> Console:
        """Stderr."""
        from rich.console import Console

        return Console(stderr=True, soft_wrap=True, highlight=False, emoji=False)

    @property
    def interactive(self) -> bool:
        """Whether to show progress: not quiet, and stderr is a terminal."""
        return not self.quiet and self.console.is_terminal

    def note(self, message: str) -> None:
        """Print a message unless ``--quiet`` is given."""
        if not self.quiet:
            self.console.print(message, markup=False)

    def error(self, message: str) -> None:
        """Report an error."""
        print(f"error: {message}", file=sys.stderr)  # memory may not suffice for more

    def progress(self) -> Progress:
        """A progress bar with the time left; lines where stderr is no terminal, and nothing when quiet."""
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        if not self.quiet and not self.interactive:
            from polsess.cli._progress_lines import ProgressLines

            return ProgressLines(self.note)
        return Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.interactive,
        )
