"""Fast reading and writing of the most common sound file: 16-bit PCM in a plain RIFF WAV.

Only files without any fault are read here; all others are left to the general reader, which names the fault.
"""

from __future__ import annotations

import io
import os
import stat
import struct
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from polsess.system_errors import errors_named

RATES = range(1_000, 768_001)
"""Rates in Hz that a sound file may have."""
MAX_CHANNELS = 64

_HAS_PREADV = hasattr(os, "preadv") and sys.byteorder == "little"
_OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)
"""Without blocking, because opening a pipe would wait for its writer."""
_HEAD_BYTES = 1024
_USUAL_HEAD_BYTES = 44
_PCM = 1
_MAX_VALUES = 2**30
"""Largest number of values that are read at once; the general reader refuses more."""


@dataclass(frozen=True, slots=True)
class PlainWav:
    """Header of a 16-bit WAV and the place of its samples."""

    sample_rate: int
    num_channels: int
    num_samples: int
    """Samples per channel."""
    data_offset: int
    """Byte of the first sample."""


def parse_plain_wav(head: bytes | bytearray, size: int) -> PlainWav | None:
    """Read a header.

    Args:
        head: The first bytes of the file.
        size: Bytes of the whole file.

    Returns:
        None unless the file is 16-bit PCM, whole, and its header is consistent.
    """
    if head[:4] != b"RIFF" or head[8:12] != b"WAVE":
        return None
    position, form = 12, None
    while position + 8 <= len(head):
        name, length = struct.unpack_from("<4sI", head, position)
        place = position + 8
        if name == b"fmt " and length >= 16 and place + 16 <= len(head):
            form = struct.unpack_from("<HHIIHH", head, place)
        elif name == b"data":
            return _check(form, place, length, size)
        position = place + length + length % 2
    return None


def _check(form: tuple[int, ...] | None, place: int, length: int, size: int) -> PlainWav | None:
    if form is None:
        return None
    encoding, channels, rate, _, bytes_per_sample, bits = form
    plain = encoding == _PCM and bits == 16 and 1 <= channels <= MAX_CHANNELS and rate in RATES
    if not plain or bytes_per_sample != 2 * channels:
        return None
    rest = size - place - length
    whole = length > 0 and 0 <= rest < _USUAL_HEAD_BYTES and length % bytes_per_sample == 0
    return PlainWav(rate, channels, length // bytes_per_sample, place) if whole else None


def read_plain_header(path: Path | str) -> PlainWav | None:
    """Read the header of a file; None if it is not such a file or cannot be read."""
    try:
        status = os.stat(path)  # noqa: PTH116 - a pipe would block when opened; pathlib is slow here
        if not stat.S_ISREG(status.st_mode):
            return None
        with io.open(path, "rb", 0) as file:  # noqa: UP020
            return parse_plain_wav(file.read(_HEAD_BYTES), status.st_size)
    except (OSError, ValueError):
        return None


def read_plain_pcm(
    path: Path | str, start: int = 0, num_samples: int | None = None
) -> tuple[NDArray[np.int16], PlainWav] | None:
    """Read the integers of a file or of a part of it.

    Args:
        path: The file.
        start: The first sample.
        num_samples: Samples per channel; None for all that follow.

    Returns:
        Samples ``[T, channels]`` and the header; None if it is not such a file or the part is not in it.
    """
    try:
        status = os.stat(path)  # noqa: PTH116
        if not stat.S_ISREG(status.st_mode):
            return None
        with io.open(path, "rb", 0) as file:  # noqa: UP020
            header = parse_plain_wav(file.read(_HEAD_BYTES), status.st_size)
            if header is None:
                return None
            stop = header.num_samples if num_samples is None else start + num_samples
            if not 0 <= start < stop <= header.num_samples:
                return None
            if (stop - start) * header.num_channels > _MAX_VALUES:
                return None
            samples = np.empty((stop - start, header.num_channels), "<i2")
            file.seek(header.data_offset + 2 * start * header.num_channels)
            if file.readinto(samples.data.cast("B")) != samples.nbytes:
                return None
    except (OSError, ValueError):
        return None
    return samples, header


def encode_plain_pcm(samples: NDArray[np.int16], sample_rate: int) -> bytes:
    """Encode integers ``[T]`` as a mono WAV file."""
    data = np.ascontiguousarray(samples, "<i2").tobytes()
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, _PCM, 1, sample_rate, 2 * sample_rate, 2, 16)
    head = struct.pack("<4sI4s", b"RIFF", 36 + len(data), b"WAVE") + form
    return head + struct.pack("<4sI", b"data", len(data)) + data


def read_plain_mono(path: str, start: int, out: NDArray[np.int16]) -> PlainWav | None:
    """Read a part of a mono file into existing memory, with as few system calls as is safe.

    Args:
        path: The file.
        start: The first sample.
        out: Contiguous little-endian integers ``[T]``; undefined where None is returned.

    Returns:
        The header; None if it is not such a file, not mono, or the part is not in it.
    """
    if not _HAS_PREADV:
        return None
    try:
        file = os.open(path, _OPEN_FLAGS)
    except (OSError, ValueError):
        return None
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            return None
        if start == 0:  # the usual header and the samples at once
            head = bytearray(_USUAL_HEAD_BYTES)
            count = os.preadv(file, [head, out.data], 0)
            header = parse_plain_wav(head, status.st_size)
            if header is not None and count == _USUAL_HEAD_BYTES + out.nbytes:
                return header if header.num_channels == 1 and len(out) <= header.num_samples else None
        header = parse_plain_wav(os.pread(file, _HEAD_BYTES, 0), status.st_size)
        if header is None or header.num_channels != 1 or not 0 <= start <= header.num_samples - len(out):
            return None
        count = os.preadv(file, [out.data], header.data_offset + 2 * start) if len(out) else 0
        return header if count == out.nbytes else None
    except OSError:
        return None
    finally:
        os.close(file)


def write_plain_pcm(path: Path, samples: NDArray[np.int16], sample_rate: int) -> None:
    """Write integers ``[T]`` as a mono file, whole or not at all, but without waiting for the disk.

    Flushing each of a million files would take hours, and a lost one can be made again.
    """
    temporary = path.with_name(f".{path.name}.part")
    try:
        with errors_named(path, {str(temporary): path}):
            temporary.write_bytes(encode_plain_pcm(samples, sample_rate))
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
