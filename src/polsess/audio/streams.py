"""The streams in a file: MP3 frames, chained OGG streams, FLAC without a length.

libsndfile stops where the first stream or an estimated length ends. So the bytes of each stream are found
here, and a header with the true length is put before those that have none.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

_BLOCK = 2**20


class Refusal(Exception):
    """A cause for which the name of the file is still to be added."""


@dataclass(frozen=True)
class Stream:
    """Bytes of a file that a decoder can read by themselves."""

    start: int
    stop: int
    prefix: bytes = b""
    """A header that goes before them."""


class StreamFile(io.RawIOBase):
    """One stream as a file that can be read and sought."""

    def __init__(self, path: Path, stream: Stream) -> None:
        self._file = path.open("rb")
        self._stream, self._position = stream, 0
        self._size = len(stream.prefix) + stream.stop - stream.start

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Read the next bytes into a buffer; returns their number."""
        count = max(0, min(len(buffer), self._size - self._position))
        before = self._stream.prefix[self._position : self._position + count]
        buffer[: len(before)] = before
        rest = count - len(before)
        if rest:
            self._file.seek(self._stream.start + self._position + len(before) - len(self._stream.prefix))
            content = self._file.read(rest)
            buffer[len(before) : len(before) + len(content)] = content
            count = len(before) + len(content)
        self._position += count
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


class Content:
    """The bytes of a file, read in large blocks; slices are bytes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._size = file, file.seek(0, io.SEEK_END)
        self._start, self._block = 0, b""

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, part: slice) -> bytes:
        start, stop, _ = part.indices(self._size)
        if not self._start <= start <= stop <= self._start + len(self._block):
            self._file.seek(start)
            self._start, self._block = start, self._file.read(max(_BLOCK, stop - start))
        return self._block[start - self._start : stop - self._start]

    def find(self, wanted: bytes, start: int) -> int:
        """The first place of some bytes from ``start`` on; -1 if there is none."""
        while start < self._size:
            place = self[start : start + _BLOCK].find(wanted)
            if place >= 0:
                return start + place
            start += _BLOCK - len(wanted) + 1
        return -1


def find_streams(content: Content) -> list[Stream]:
    """The streams of an MP3, OGG or FLAC file; none where a decoder can read the file as it is.

    Raises:
        Refusal: If it is cut off or no such file.
    """
    if content[:4] == b"OggS":
        return _ogg_streams(content)
    start = _skip_id3(content, 0)
    if content[start : start + 4] == b"fLaC":
        return _flac_streams(content, start)
    return _mp3_streams(content)


def looks_like_mp3(magic: bytes) -> bool:
    """Whether a file that starts with these bytes is taken for an MP3 file."""
    return magic[:3] == b"ID3" or _frame(magic[:4]) is not None or _is_free_format(magic[:4])


# OGG (RFC 3533): pages; the first pages of a stream have a flag, and so does its last page.

_OGG_FIRST, _OGG_LAST = 2, 4


def _ogg_streams(content: Content) -> list[Stream]:
    starts: list[int] = []
    ended = beginning = False
    position = stop = 0
    while (position := content.find(b"OggS", position)) >= 0:
        if starts and position != stop:
            raise Refusal(f"is cut off or damaged: no OGG page begins at byte {stop}.")
        head = content[position : position + 27]
        lengths = content[position + 27 : position + 27 + head[26]] if len(head) == 27 else b""
        stop = position + 27 + len(lengths) + sum(lengths)
        if len(head) < 27 or len(lengths) < head[26] or stop > len(content):
            raise Refusal("is cut off inside an OGG page.")
        first = bool(head[5] & _OGG_FIRST)
        if first and not beginning:
            if starts and not ended:
                raise Refusal("is cut off: one of its OGG streams has no end.")
            starts.append(position)
        beginning, ended = first, bool(head[5] & _OGG_LAST)
        position = stop
    if not ended:
        raise Refusal("is cut off: its last OGG page is not the end of the stream.")
    stops = [*starts[1:], len(content)]
    streams = [Stream(start, stop) for start, stop in zip(starts, stops, strict=True)]
    return streams if len(streams) > 1 else []


# FLAC (RFC 9639): a header with the number of samples, 0 if its writer did not know it, then frames.

_STREAMINFO = 34
_FLAC_SEARCH = 2**21
_FLAC_BLOCKS = {1: 192, **{2 + n: 576 << n for n in range(4)}, **{8 + n: 256 << n for n in range(8)}}


def _flac_streams(content: Content, start: int) -> list[Stream]:
    info = content[start + 8 : start + 8 + _STREAMINFO]
    if len(info) < _STREAMINFO:
        raise Refusal("cannot be decoded: its header is cut off.")
    packed = int.from_bytes(info[10:18])
    if packed & (2**36 - 1):
        return [Stream(start, len(content))] if start else []
    total = _flac_samples(content, int.from_bytes(info[2:4]))
    info = info[:10] + (packed | min(total, 2**36 - 1)).to_bytes(8) + info[18:]
    return [Stream(start + 8 + _STREAMINFO, len(content), content[start : start + 8] + info)]


def _flac_samples(content: Content, block: int) -> int:
    """Number of samples by the last frame, which must be whole."""
    tail = content[max(0, len(content) - _FLAC_SEARCH) : len(content)]
    position = len(tail)
    while (position := tail.rfind(b"\xff", 0, position)) >= 0:
        end = _flac_frame_end(tail[position : position + 16], block)
        if end is not None and _crc(tail[position:], 16, 0x8005) == 0:
            return end
    raise Refusal("is cut off: its last FLAC frame is not whole.")


def _flac_frame_end(head: bytes, block: int) -> int | None:
    """The sample after a frame by its header; None if there is no frame."""
    if len(head) < 6 or head[1] & 0xFE != 0xF8:
        return None
    width = 1 if head[4] < 0x80 else 8 - (head[4] ^ 0xFF).bit_length()
    number = head[4] if width == 1 else head[4] & (0x7F >> width)
    for byte in head[5 : 4 + width]:
        number = number << 6 | byte & 0x3F
    place = 4 + width
    code = head[2] >> 4
    size = _FLAC_BLOCKS.get(code, 0)
    if code in (6, 7):
        size = int.from_bytes(head[place : place + code - 5]) + 1
        place += code - 5
    place += {12: 1, 13: 2, 14: 2}.get(head[2] & 0xF, 0)
    if not size or place >= len(head) or _crc(head[: place + 1], 8, 0x07):
        return None
    return size + (number if head[1] & 1 else number * block)


def _crc(data: bytes, bits: int, polynomial: int) -> int:
    table, mask, value = _crc_table(bits, polynomial), (1 << bits) - 1, 0
    for byte in data:
        value = (value << 8 & mask) ^ table[value >> (bits - 8) ^ byte]
    return value


@lru_cache
def _crc_table(bits: int, polynomial: int) -> list[int]:
    table = []
    for byte in range(256):
        value = byte << (bits - 8)
        for _ in range(8):
            value = (value << 1 ^ (polynomial if value >> (bits - 1) else 0)) & ((1 << bits) - 1)
        table.append(value)
    return table


# MPEG audio (ISO 11172-3, 13818-3): frames, each with its length in its header. A first frame called Xing or
# Info says how many follow; without it libsndfile estimates the length from the size of the file.

_BITRATES = {
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = (44_100, 48_000, 32_000)
_INFO_BITRATE = 9
"""Index of a bitrate whose frames have room for the number of frames."""


@dataclass(frozen=True)
class _Frame:
    """The header of an MPEG frame."""

    length: int
    form: tuple[int, int, int, bool]
    """Version (2 for both lower ones), layer, rate in Hz, mono: the same in all frames of a stream."""

    @property
    def tag_offset(self) -> int:
        """Bytes before the name of an Xing frame."""
        version, _, _, mono = self.form
        return 4 + ((17 if mono else 32) if version == 1 else (9 if mono else 17))


def _frame(head: bytes) -> _Frame | None:
    """The header in four bytes; None if it is none, or has no bitrate."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    return _parse_frame(head[1], head[2], head[3] >> 6 == 3)


@lru_cache(maxsize=4096)
def _parse_frame(first: int, second: int, mono: bool) -> _Frame | None:
    version = {3: 1, 2: 2, 0: 4}.get(first >> 3 & 3, 0)
    layer, bitrate, rate = 4 - (first >> 1 & 3), second >> 4, second >> 2 & 3
    if not version or layer == 4 or bitrate in (0, 15) or rate == 3:
        return None
    hertz = _RATES[rate] // version
    bits = _BITRATES[min(version, 2), layer][bitrate - 1] * 1000
    padding = second >> 1 & 1
    if layer == 1:
        length = (12 * bits // hertz + padding) * 4
    else:
        length = (72 if layer == 3 and version > 1 else 144) * bits // hertz + padding
    return _Frame(length, (min(version, 2), layer, hertz, mono))


def _is_free_format(head: bytes) -> bool:
    """Whether a frame has a bitrate of its own; its length cannot be computed."""
    return (
        len(head) >= 4
        and head[0] == 0xFF
        and head[1] & 0xE0 == 0xE0
        and head[2] >> 4 == 0
        and (head[1] & 0x18 != 0x08 and head[1] & 0x06 != 0)
    )


def _mp3_streams(content: Content) -> list[Stream]:
    start = _skip_id3(content, 0)
    if _is_free_format(content[start : start + 4]):
        return []
    streams = [stream for found in _split_mp3(content, start) for stream in found.streams(content)]
    if not streams:
        raise Refusal("cannot be decoded: no MPEG frame is in it.")
    whole = len(streams) == 1 and not streams[0].prefix
    return [] if whole else streams


@dataclass
class _Run:
    """Frames that follow each other in an MP3 file."""

    start: int
    frame: _Frame
    """The first one."""
    announced: int | None
    """Number of frames by the first one, if that is an Xing frame."""
    stop: int = 0
    count: int = 0
    """Frames of sound."""

    def streams(self, content: Content) -> list[Stream]:
        """The run with a header before it, unless it has a true one.

        Raises:
            Refusal: If frames are missing.
        """
        missing = (self.announced or 0) - self.count
        if missing > 1:  # some encoders count the Xing frame too
            raise Refusal(f"is cut off: {missing} of {self.announced} MPEG frames are missing.")
        if not self.count:
            return []
        exact = self.count == self.announced or self.frame.form[1] != 3  # other layers have no Xing frame
        start = self.start if exact or self.announced is None else self.start + self.frame.length
        return [Stream(start, self.stop, b"" if exact else self._header(content))]

    def _header(self, content: Content) -> bytes:
        """An Info frame with the number of frames."""
        head = bytearray(content[self.start : self.start + 4])
        head[1] |= 1  # without a checksum
        head[2] = _INFO_BITRATE << 4 | head[2] & 0x0C
        frame = _frame(bytes(head))
        assert frame is not None
        tag = struct.pack(">4sII", b"Info", 1, self.count)
        return (bytes(head).ljust(frame.tag_offset, b"\0") + tag).ljust(frame.length, b"\0")


def _split_mp3(content: Content, start: int) -> list[_Run]:
    """All frames of a file, in runs that begin with an Xing frame or another form."""
    runs: list[_Run] = []
    for position, frame in _mp3_frames(content, start):
        announced = _announced(content, position, frame)
        known = runs[-1].announced if runs else None
        if (
            not runs
            or announced is not None
            or frame.form != runs[-1].frame.form
            or (known is not None and known > 0 and runs[-1].count == known)
        ):
            runs.append(_Run(position, frame, announced))
        runs[-1].stop = position + frame.length
        runs[-1].count += announced is None
    return runs


def _announced(content: Content, position: int, frame: _Frame) -> int | None:
    """The number of frames that an Xing frame names; None if it is another frame."""
    place = position + frame.tag_offset
    if frame.form[1] != 3 or content[place : place + 4] not in (b"Xing", b"Info"):
        return None
    flags, count = struct.unpack(">II", content[place + 4 : place + 12].ljust(8, b"\0"))
    return count if flags & 1 else 0


def _mp3_frames(content: Content, position: int) -> Iterator[tuple[int, _Frame]]:
    """Places and headers of all frames; tags and other bytes between them are skipped."""
    size, form = len(content), None
    while position < size:
        frame = _frame(content[position : position + 4])
        if frame is not None and (form is None or frame.form == form or _follows(content, position, frame)):
            if position + frame.length > size:
                raise Refusal("is cut off inside its last MPEG frame.")
            form = frame.form
            yield position, frame
            position += frame.length
        else:
            position = _next_frame(content, position)


def _follows(content: Content, position: int, frame: _Frame) -> bool:
    """Whether another frame of the same form comes after a frame, so that it is not chance."""
    after = _frame(content[position + frame.length : position + frame.length + 4])
    return after is not None and after.form == frame.form


def _next_frame(content: Content, position: int) -> int:
    """The next place where two frames follow each other, behind tags if there are some; the end if none."""
    tag = content[position : position + 8]
    if tag[:3] == b"ID3":
        return max(_skip_id3(content, position), position + 1)
    if tag[:3] == b"TAG":
        return position + 128
    if tag == b"APETAGEX":
        return position + 32 + struct.unpack("<I", content[position + 12 : position + 16].ljust(4, b"\0"))[0]
    while (position := content.find(b"\xff", position + 1)) >= 0:
        frame = _frame(content[position : position + 4])
        if frame is not None and _follows(content, position, frame):
            return position
    return len(content)


def _skip_id3(content: Content, position: int) -> int:
    """The byte after an ID3v2 tag, if one is there."""
    head = content[position : position + 10]
    if len(head) < 10 or head[:3] != b"ID3":
        return position
    size = 0
    for byte in head[6:10]:
        size = size << 7 | byte & 0x7F
    return position + 10 + size + (10 if head[5] & 0x10 else 0)
