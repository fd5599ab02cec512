"""Sound that comes through a pipe without an end in sight, and goes out through one: raw PCM and WAV.

Files are for ``reading`` and ``writing``, which see the whole; here a header may say nothing of the length.

Shapes: K channels, n samples.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, get_args

import numpy as np

from polsess.audio.containers import AudioError
from polsess.audio.plain_wav import MAX_CHANNELS, RATES
from polsess.audio.samples import Samples, as_samples, as_tensor

if TYPE_CHECKING:
    from torch import Tensor

PipeFormat = Literal["wav", "s16", "f32"]
"""A WAV file, or samples alone, little-endian: 16-bit integers or 32-bit floating point."""

_TYPES: dict[str, np.dtype[Any]] = {"s16": np.dtype("<i2"), "f32": np.dtype("<f4")}
_ENCODINGS = {(1, 16): "s16", (3, 32): "f32"}
_EXTENSIBLE = 0xFFFE
_BLOCK_BYTES = 1 << 16
_MAX_HEADER = 1 << 20
_HEADER_BYTES = 44
"""Of the header that ``PipeWriter`` writes."""
_UNKNOWN = 0xFFFFFFFF
_PLACEHOLDER_FROM = 0x7FFF0000
"""Lengths from here on are written by programs that do not know them, and so is 0."""


class PipeReader:
    """Sound from a pipe.

    Args:
        file: A binary stream.
        name: Its name in messages.
        kind: What comes.
        sample_rate: In Hz, of samples alone; None for a WAV, which says it.
        num_channels: K, of samples alone; None for a WAV.

    Raises:
        AudioError: If it begins with no WAV header that can be read here.
        ValueError: If rate or channels contradict the format.
    """

    def __init__(
        self,
        file: BinaryIO,
        name: str,
        kind: PipeFormat,
        sample_rate: int | None = None,
        num_channels: int | None = None,
    ) -> None:
        if kind not in get_args(PipeFormat):
            raise ValueError(f"format: expected wav, s16 or f32, got {kind!r}.")
        if kind == "wav" and (sample_rate or num_channels):
            raise ValueError("format: a WAV says its rate and channels itself; leave them out.")
        if kind != "wav" and sample_rate is None:
            raise ValueError(f"format: {kind} has no header; give its rate in Hz.")
        self._file, self._name = file, name
        self._left: int | None = None
        self.num_samples = 0
        """Samples per channel that came so far."""
        if kind == "wav":
            encoding, self.sample_rate, self.num_channels = self._read_header()
        else:
            encoding, self.sample_rate, self.num_channels = kind, sample_rate or 0, num_channels or 1
        if self.sample_rate not in RATES or not 1 <= self.num_channels <= MAX_CHANNELS:
            raise AudioError(
                name,
                f"expected {RATES.start} to {RATES.stop - 1} Hz and at most {MAX_CHANNELS} channels, "
                f"got {self.sample_rate} Hz and {self.num_channels}.",
            )
        self._type = _TYPES[encoding]

    def blocks(self) -> Iterator[Tensor]:
        """What comes, as soon as it comes, ``[K, n]`` in float32, until the end.

        Raises:
            AudioError: If it ends within a sample, or before the length that its header says.
        """
        width = self._type.itemsize * self.num_channels
        rest = b""
        while self._left != 0 and (content := self._read(_BLOCK_BYTES)):
            content = rest + content
            whole = len(content) // width * width
            content, rest = content[:whole], content[whole:]
            if content:
                yield self._decoded(content)
        if rest or self._left:
            raise AudioError(self._name, f"is cut off after {self.num_samples / self.sample_rate:.3f} s.")

    def _decoded(self, content: bytes) -> Tensor:
        values = np.frombuffer(content, self._type).reshape(-1, self.num_channels).T.astype(np.float32)
        self.num_samples += values.shape[1]
        return as_tensor(values / np.float32(2**15) if self._type.kind == "i" else values)

    def _read(self, most: int) -> bytes:
        """Bytes of the sound, as many as are there; none at its end."""
        read = getattr(self._file, "read1", self._file.read)
        content: bytes = read(most if self._left is None else min(most, self._left))
        if self._left is not None:
            self._left -= len(content)
        return content

    def _read_header(self) -> tuple[str, int, int]:
        """Encoding, rate and channels; the samples come next."""
        head = self._exactly(12)
        if head[:4] != b"RIFF" or head[8:] != b"WAVE":
            raise AudioError(self._name, "is no WAV; say what comes: --from s16 or f32, and --rate.")
        form: tuple[int, ...] | None = None
        while True:
            name, length = struct.unpack("<4sI", self._exactly(8))
            if name == b"data":
                break
            if length > _MAX_HEADER:
                raise AudioError(self._name, f"has a WAV header that claims {length} bytes in one part.")
            content = self._exactly(length + length % 2)
            if name == b"fmt " and length >= 16:
                form = struct.unpack_from("<HHIIHH", content)
                if form[0] == _EXTENSIBLE and length >= 26:
                    form = (*struct.unpack_from("<H", content, 24), *form[1:])
        encoding = _ENCODINGS.get((form[0], form[5])) if form else None
        if form is None or encoding is None:
            raise AudioError(
                self._name,
                "is a WAV of another encoding than 16-bit PCM or 32-bit floating point; convert it first.",
            )
        self._left = None if length == 0 or length >= _PLACEHOLDER_FROM else length
        return encoding, form[2], form[1]

    def _exactly(self, count: int) -> bytes:
        content = b""
        while len(content) < count:
            more = self._file.read(count - len(content))
            if not more:
                raise AudioError(self._name, "ends within its WAV header." if content else "is empty.")
            content += more
        return content


class PipeWriter:
    """Sound into a pipe, at once.

    Args:
        file: A binary stream.
        sample_rate: In Hz.
        num_channels: K.
        encoding: Of the samples.
        header: Whether a WAV header comes first; ``close`` puts the length into it where it can.
    """

    def __init__(
        self,
        file: BinaryIO,
        sample_rate: int,
        num_channels: int,
        encoding: Literal["s16", "f32"] = "s16",
        *,
        header: bool = True,
    ) -> None:
        self._file, self._type = file, _TYPES[encoding]
        self._start = _position(file) if header else None
        if header:
            width = self._type.itemsize
            tag = 1 if encoding == "s16" else 3
            block = width * num_channels
            form = struct.pack(
                "<HHIIHH", tag, num_channels, sample_rate, sample_rate * block, block, 8 * width
            )
            head = b"RIFF" + struct.pack("<I", _UNKNOWN) + b"WAVEfmt " + struct.pack("<I", len(form)) + form
            self._file.write(head + b"data" + struct.pack("<I", _UNKNOWN))
            self._file.flush()

    def write(self, block: Samples | Tensor) -> None:
        """Write samples ``[K, n]``; 16-bit ones beyond full scale are cut."""
        values = as_samples(block).T
        if self._type.kind == "i":
            values = np.rint(values * 2**15).clip(-(2**15), 2**15 - 1)
        self._file.write(np.ascontiguousarray(values, self._type).tobytes())
        self._file.flush()

    def close(self) -> None:
        """Say in the header how long it was: of a file that ends here; a pipe keeps "unknown"."""
        if self._start is None:
            return
        end = self._file.tell()
        size = end - self._start - _HEADER_BYTES
        if size < _PLACEHOLDER_FROM:
            for place, value in ((4, size + _HEADER_BYTES - 8), (_HEADER_BYTES - 4, size)):
                self._file.seek(self._start + place)
                self._file.write(struct.pack("<I", value))
            self._file.seek(end)
        self._file.flush()


def _position(file: BinaryIO) -> int | None:
    """Where a file stands that can be written anew; None for a pipe or a device, or what is appended to."""
    try:
        import fcntl  # not on every system; without it the length stays unknown

        number = file.fileno()
        appends = fcntl.fcntl(number, fcntl.F_GETFL) & os.O_APPEND
        return None if appends or not stat.S_ISREG(os.fstat(number).st_mode) else file.tell()
    except (ImportError, OSError):  # the latter of a stream without a descriptor, too
        return None
