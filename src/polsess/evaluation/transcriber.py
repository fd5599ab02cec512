"""Speech recognisers as other programs: a command with the path of a WAV file, words on standard output.

The command is no shell's: it is split into words, and the path takes the place of ``{wav}``. Standard output
is text, or JSON with one word per line: ``{"word": "good", "start": 0.5, "end": 0.8}``, times in seconds.

Shapes: T samples.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import torch
from pydantic import ConfigDict, Field

from polsess.audio import Samples, resample, write_audio
from polsess.data.transcripts import Segment, Transcript, plain_words
from polsess.files import parse_json
from polsess.interruption import heed
from polsess.schema import ConfigError, Schema, parse

SAMPLE_RATE = 16_000
"""Rate of the WAV files in Hz."""
_PATH = "{wav}"
_STEP_SECONDS = 0.1
"""How often it is asked whether a signal has come."""
_MAX_BYTES = 1 << 24
_LAST_BYTES = 1 << 12
_MOST_LATE = 3
"""A recogniser that is late for so many sounds and has heard none is not asked again."""
_ROUNDING_SECONDS = 1.0
"""A word may end later than the sound by as much."""


class TranscriberError(ValueError):
    """A recogniser gave no transcript; the message says why, in one line."""


class _LateError(TranscriberError):
    """It took too long."""


class _Word(Schema):
    """One line of JSON; recognisers may say more."""

    model_config = ConfigDict(extra="ignore")

    word: str
    start: float = Field(ge=0)
    end: float = Field(ge=0)


class Transcriber:
    """Runs a recogniser on sounds; what was transcribed once is remembered.

    Args:
        command: The program and its arguments, one of which holds ``{wav}``.
        limit_seconds: Time that one sound may take.

    Raises:
        ConfigError: If the command cannot be run or the limit is none.
    """

    def __init__(self, command: str, limit_seconds: float = 600.0) -> None:
        try:
            self._words = shlex.split(command)
        except ValueError as error:
            raise ConfigError(f"transcriber: '{command}' cannot be split into words ({error}).") from None
        if not any(_PATH in word for word in self._words[1:]):
            raise ConfigError(
                f"transcriber: expected a program and {_PATH} for the path of the sound, e.g. "
                f"\"recognise {_PATH}\", got '{command}'."
            )
        if shutil.which(self._words[0]) is None:
            raise ConfigError(f"transcriber: no program '{self._words[0]}' is found.")
        if not limit_seconds > 0:
            raise ConfigError(f"transcriber: expected a limit of more than 0 s, got {limit_seconds:g}.")
        self.command, self.limit_seconds = command, limit_seconds
        self._known: dict[str, Transcript | TranscriberError] = {}
        self._num_late, self._num_heard = 0, 0

    def transcribe(self, samples: Samples, sample_rate: int, speaker: str) -> Transcript:
        """What is said in a sound.

        Args:
            samples: ``[T]``; where they are louder than full scale they are made quieter.
            sample_rate: In Hz; the recogniser gets 16 kHz.
            speaker: Name of the speaker in the transcript.

        Returns:
            A segment per word where the recogniser gives times, else one of all words; none for digital
            silence, which the recogniser does not get, and where it prints nothing.

        Raises:
            TranscriberError: If the recogniser fails, takes too long or prints something else, or took too
                long for the first three sounds.
        """
        if not samples.any():
            return ()
        key = hashlib.sha256(f"{sample_rate}".encode() + samples.tobytes()).hexdigest()
        if key not in self._known:
            if self._num_late >= _MOST_LATE and not self._num_heard:
                raise TranscriberError(
                    f"takes more than {self.limit_seconds:g} s for the first {_MOST_LATE} sounds; the others "
                    "are not tried"
                )
            try:
                self._known[key] = self._run(samples, sample_rate)
                self._num_heard += 1
            except TranscriberError as error:
                self._known[key] = error
                self._num_late += isinstance(error, _LateError)
        known = self._known[key]
        if isinstance(known, TranscriberError):
            raise known
        return tuple(Segment(speaker, each.start, each.end, each.text) for each in known)

    def _run(self, samples: Samples, sample_rate: int) -> Transcript:
        with tempfile.TemporaryDirectory(prefix="polsess-") as folder:
            path = Path(folder) / "sound.wav"
            sound = resample(torch.from_numpy(samples).float(), sample_rate, SAMPLE_RATE)
            write_audio(path, sound, SAMPLE_RATE, clip_mode="rescale")
            command = [word.replace(_PATH, str(path)) for word in self._words]
            output = _output_of(command, self.limit_seconds)
        return read_output(output, len(samples) / sample_rate)


@dataclass
class _Reader:
    """Reads a pipe in a thread of its own, up to a number of bytes, or keeps the last of them."""

    pipe: IO[bytes]
    keep_last: bool
    content: bytes = b""

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    @property
    def is_full(self) -> bool:
        """Whether there is more than may be."""
        return not self.keep_last and len(self.content) > _MAX_BYTES

    def _read(self) -> None:
        with contextlib.suppress(ValueError, OSError):  # the pipe is closed when the program is ended
            while not self.is_full and (block := os.read(self.pipe.fileno(), 1 << 16)):
                self.content += block
                if self.keep_last:
                    self.content = self.content[-_LAST_BYTES:]


def _output_of(command: list[str], limit_seconds: float) -> bytes:
    """Standard output of a program that is ended, with those that it started, after a while."""
    try:
        process = subprocess.Popen(  # noqa: S603 - the user's own command, no shell
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise TranscriberError(f"'{command[0]}' cannot be run ({error.strerror})") from None
    assert process.stdout is not None
    assert process.stderr is not None
    with process:
        output, errors = _Reader(process.stdout, False), _Reader(process.stderr, True)
        try:
            _wait(process, output, limit_seconds)
        finally:
            _end(process)
        errors.thread.join(1.0)
    if code := process.returncode:
        lines = errors.content.decode(errors="replace").strip().splitlines() or ["no reason given"]
        reason = "".join(letter for letter in lines[-1] if letter.isprintable())
        raise TranscriberError(f"exit code {code}: {reason:.200}")
    return output.content


def _wait(process: subprocess.Popen[bytes], output: _Reader, limit_seconds: float) -> None:
    """Wait until a program has printed all and ended; a signal that stops this process ends that, too."""
    latest = time.monotonic() + limit_seconds
    while output.thread.is_alive() or (process.poll() is None and not output.is_full):
        heed()
        if time.monotonic() > latest:
            raise _LateError(f"takes more than {limit_seconds:g} s")
        if output.thread.is_alive():
            output.thread.join(_STEP_SECONDS)
        else:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_STEP_SECONDS)
    if output.is_full:
        raise TranscriberError(f"prints more than {_MAX_BYTES >> 20} MB")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a program and those that it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()


def read_output(output: bytes, seconds: float = math.inf) -> Transcript:
    """The words that a recogniser printed, of a speaker without a name.

    Args:
        output: What it printed.
        seconds: Length of the sound; no word may end later by more than a second.

    Raises:
        TranscriberError: If it is neither text nor lines of JSON with word, start and end.
    """
    try:
        text = output.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        raise TranscriberError("prints something that is no text in UTF-8") from None
    lines = [(number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    if any(line.lstrip().startswith(("{", "[{")) for _, line in lines):
        found = [_read_word(number, line, seconds) for number, line in lines]
        return tuple(word for word in found if word.text)
    for letter in text:
        if unicodedata.category(letter) == "Cc" and not letter.isspace():
            raise TranscriberError(f"prints no text, but the character {letter!r}")
    words = plain_words(text)
    if text and not words:
        raise TranscriberError(f"prints no words: {text[:60]!r}")
    return (Segment("", math.nan, math.nan, words),) if words else ()


def _read_word(number: int, line: str, seconds: float) -> Segment:
    try:
        word = parse(_Word, parse_json(line, f"line {number}"), f"line {number}")
    except ConfigError as error:
        raise TranscriberError(f"prints no word of JSON: {' '.join(str(error).split())}") from None
    if word.end < word.start:
        raise TranscriberError(f"line {number}: the word ends before it starts")
    if word.end > seconds + _ROUNDING_SECONDS:
        raise TranscriberError(
            f"line {number}: the word ends at {word.end:g} s, the sound at {seconds:g} s; are these seconds?"
        )
    return Segment("", word.start, word.end, plain_words(word.word))
