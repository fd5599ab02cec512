"""Sounds through pipes: stdin as a file, and a file to stdout."""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from polsess.cli.terminal import ExitCode, Failure

PIPE = Path("-")
"""The name of stdin among the inputs, and of stdout as the output."""


@dataclass(frozen=True)
class Pipes:
    """Files in the place of the pipes of a command."""

    folder: Path
    """Holds the files, as long as the command runs."""
    inputs: tuple[Path, ...]
    """The inputs, with a file in place of stdin."""
    out: Path | None
    """Folder for the sound that goes to stdout; None if none does."""

    def shown(self, text: str) -> str:
        """A text in which the pipes are called by their names."""
        text = text.replace(str(self.folder / "stdin"), "stdin")
        return re.sub(re.escape(str(self.folder / "stdout")) + r"(/[^:]*)?", "stdout", text)


@contextmanager
def pipes(inputs: Sequence[Path], out: Path) -> Iterator[Pipes]:
    """Take the sound that comes through stdin, if ``-`` is among the inputs, and prepare one to stdout.

    Raises:
        Failure: If stdin or stdout is a terminal.
        AudioError: If nothing comes.
        OSError: If the disk is full.
    """
    if out == PIPE and sys.stdout.isatty():
        raise Failure("-o -: stdout is a terminal; send it to a file or a program.", ExitCode.USAGE)
    with tempfile.TemporaryDirectory(prefix="polsess-") as name:
        folder = Path(name)
        if PIPE in inputs:
            _save_stdin(folder / "stdin")
        files = tuple(folder / "stdin" if path == PIPE else path for path in inputs)
        yield Pipes(folder, files, folder / "stdout" if out == PIPE else None)


def _save_stdin(target: Path) -> None:
    from polsess.audio import AudioError, save_stream
    from polsess.system_errors import errors_named

    if sys.stdin.isatty():
        raise Failure("-: stdin is a terminal; send a sound through a pipe.", ExitCode.USAGE)
    try:
        with errors_named(target.parent):
            save_stream(sys.stdin.buffer, target)
    except AudioError as error:
        raise AudioError("stdin", error.cause) from None


def send(path: Path) -> None:
    """Write a file to stdout; a reader that has gone is no error.

    Raises:
        OSError: If stdout takes no more, e.g. a file on a full disk.
    """
    try:
        with path.open("rb") as file:
            shutil.copyfileobj(file, sys.stdout.buffer)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        sys.stdout.flush()
    except OSError as error:
        raise OSError(error.errno, error.strerror, "stdout") from None
