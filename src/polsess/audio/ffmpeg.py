"""Decoding files that libsndfile does not read, such as M4A and WebM, by the program ffmpeg.

ffmpeg is started with the demuxer that the file's first bytes ask for, so that no playlist or script is ever
followed, and its output is read from a pipe: once to count the samples, and again to deliver them.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from polsess.audio.streams import Refusal

SUFFIXES = frozenset(
    {".m4a", ".m4b", ".mp4", ".mov", ".3gp", ".mkv", ".mka", ".webm", ".aac", ".wv", ".caf", ".wma"}
    | {".amr", ".ape", ".au", ".flv", ".tta", ".spx"}
)
"""File names of sounds that need ffmpeg."""

_DEMUXERS = {
    b"\x1aE\xdf\xa3": "matroska",
    b"wvpk": "wv",
    b"caff": "caf",
    b"ADIF": "aac",
    b"0&\xb2u": "asf",
    b"#!AM": "amr",
    b"MAC ": "ape",
    b"FLV\x01": "flv",
    b".snd": "au",
    b"TTA1": "tta",
}
_BOXES = {b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"}
"""First boxes of MP4 and QuickTime files."""
_BLOCK = 2**16
_HEADER = 2**16


def demuxer_of(magic: bytes) -> str | None:
    """Ffmpeg's name for a kind of file by its first bytes; None if it is not one that is given to ffmpeg."""
    if magic[4:8] in _BOXES:
        return "mov"
    if magic[:1] == b"\xff" and len(magic) > 1 and magic[1] & 0xF6 == 0xF0:
        return "aac"
    return _DEMUXERS.get(magic[:4])


def find_ffmpeg() -> str | None:
    """The path of the program ffmpeg; None where it is not installed."""
    return shutil.which("ffmpeg")


class FFmpegFile:
    """A file that ffmpeg decodes to samples of 32-bit floats.

    Args:
        path: The file.
        demuxer: ffmpeg's name of the kind of file.
        max_samples: Samples per channel beyond which the file is refused.

    Raises:
        Refusal: If ffmpeg is missing or cannot decode the file.
    """

    format, subtype = "FFMPEG", "FLOAT"

    def __init__(self, path: Path, demuxer: str, max_samples: int) -> None:
        program = find_ffmpeg()
        if program is None:
            raise Refusal(f"is of the kind '{demuxer}', which needs ffmpeg; install it, or convert the file.")
        self._command: list[str | bytes] = [
            *(program, "-nostdin", "-v", "error", "-xerror", "-protocol_whitelist", "file,pipe"),
            *("-f", demuxer, "-i", b"file:" + os.fsencode(path), "-map", "0:a:0", "-map_metadata", "-1"),
            *("-f", "wav", "-c:a", "pcm_f32le", "-bitexact", "pipe:1"),
        ]
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] | None = None
        self._position = 0
        try:
            self.samplerate, self.channels = self._start()
            self.frames = self._count(max_samples)
        finally:
            self.close()

    def seek(self, start: int) -> None:
        """Move to a sample; ffmpeg decodes from the beginning again if it lies behind."""
        if self._process is None or start < self._position:
            self._start()
        while self._position < start:
            if not len(self.read(min(_BLOCK, start - self._position))):
                raise Refusal(f"ffmpeg delivers no sample {start}.")

    def read(self, num_samples: int, dtype: str = "float32", always_2d: bool = True) -> NDArray[np.float32]:
        """The next samples ``[n, channels]``; fewer at the end."""
        assert (dtype, always_2d) == ("float32", True)
        if self._process is None:
            self._start()
        assert self._process is not None
        assert self._process.stdout is not None
        data = self._process.stdout.read(4 * self.channels * num_samples)
        samples = np.frombuffer(data, "<f4", len(data) // 4 // self.channels * self.channels)
        samples = samples.reshape(-1, self.channels).copy()  # an array over bytes cannot be written to
        self._position += len(samples)
        return samples

    def close(self) -> None:
        """End the program."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None
        if self._errors is not None:
            self._errors.close()
            self._errors = None

    def _start(self) -> tuple[int, int]:
        """Start decoding from the beginning; returns the rate in Hz and the number of channels."""
        self.close()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - a pipe could fill up
        self._process = subprocess.Popen(  # noqa: S603
            self._command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._errors
        )
        self._position = 0
        assert self._process.stdout is not None
        form = _read_header(self._process.stdout)
        if form is None:
            self._process.wait()
            raise Refusal(f"cannot be decoded by ffmpeg: {self._reason()}.")
        return form

    def _count(self, max_samples: int) -> int:
        """Decode everything once: a file that is damaged anywhere is refused."""
        total = 0
        while count := len(self.read(_BLOCK)):
            total += count
            if total > max_samples:
                raise Refusal(f"claims more than {max_samples} samples; it is damaged.")
        assert self._process is not None
        if self._process.wait() or self._reason(""):
            raise Refusal(f"cannot be decoded by ffmpeg: {self._reason()}.")
        return total

    def _reason(self, otherwise: str = "it names no cause") -> str:
        """The last line that ffmpeg wrote."""
        assert self._errors is not None
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        if not lines:
            return otherwise
        return "".join(letter for letter in lines[-1] if letter.isprintable()).rstrip(".")


def _read_header(pipe: IO[bytes]) -> tuple[int, int] | None:
    """Rate and channels by a WAV header, read up to the first sample; None where it is none."""
    if len(head := pipe.read(12)) < 12:
        return None
    form = None
    while len(head := pipe.read(8)) == 8:
        name, length = struct.unpack("<4sI", head)
        if name == b"data":
            return form
        body = pipe.read(min(length, _HEADER))
        if name == b"fmt " and len(body) >= 16:
            channels, rate = struct.unpack("<HI", body[2:8])
            form = (rate, channels)
    return None
