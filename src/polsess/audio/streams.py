"""The streams in a file, and how OGG and FLAC files are divided into them; ``mpeg`` divides MP3 files.

libsndfile stops where the first stream or an estimated length ends. So the bytes of each stream are found
here, and a header with the true length is put before those that have none.
"""

from __future__ import annotations

import io
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


# OGG (RFC 3533): pages; the first pages of a stream have a flag, and so does its last page.

_OGG_FIRST, _OGG_LAST = 2, 4


def ogg_streams(content: Content) -> list[Stream]:
    """The streams of an OGG file that follow each other; none where there is only one.

    Raises:
        Refusal: If one is cut off.
    """
    starts: list[int] = []
    ended = beginning = False
    position = stop = last = 0
    while (position := content.find(b"OggS", position)) >= 0:
        last = position
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
    if content.find(b"OggS", last + 4) >= 0:  # a page that is cut off takes the next stream for its body
        raise Refusal("is cut off inside an OGG page; another page begins there.")
    stops = [*starts[1:], len(content)]
    streams = [Stream(start, stop) for start, stop in zip(starts, stops, strict=True)]
    return streams if len(streams) > 1 else []


# FLAC (RFC 9639): a header with the number of samples, 0 if its writer did not know it, then frames. Decoders
# stop at that number, so one that is too small is mended too.

_FLAC_MAGIC = b"fLaC"
_STREAMINFO = 34
_FLAC_LENGTH = 2**36 - 1
_FLAC_SEARCH = 2**21
_FLAC_BLOCKS = {1: 192, **{2 + n: 576 << n for n in range(4)}, **{8 + n: 256 << n for n in range(8)}}


def flac_streams(content: Content, start: int) -> list[Stream]:
    """The FLAC streams from ``start`` on with their true lengths; none where the file can be read as it is.

    Raises:
        Refusal: If the length of one is unknown and it is cut off.
    """
    starts, place = [start], start
    while (place := content.find(_FLAC_MAGIC, place + 1)) >= 0:
        if content[place + 5 : place + 8] == b"\0\0\x22":
            starts.append(place)
    stops = [*starts[1:], len(content)]
    streams = [_flac_stream(content, first, stop) for first, stop in zip(starts, stops, strict=True)]
    return streams if start or len(streams) > 1 or streams[0].prefix else []


def _flac_stream(content: Content, start: int, stop: int) -> Stream:
    info = content[start + 8 : start + 8 + _STREAMINFO]
    if len(info) < _STREAMINFO:
        raise Refusal("cannot be decoded: its header is cut off.")
    packed = int.from_bytes(info[10:18])
    stated = packed & _FLAC_LENGTH
    try:
        total = _flac_samples(content[max(start, stop - _FLAC_SEARCH) : stop], int.from_bytes(info[2:4]))
    except Refusal:
        if not stated:
            raise
        total = stated  # a tag may follow, or the end is missing, which the decoder tells
    if total <= stated:
        return Stream(start, stop)
    info = info[:10] + (packed - stated | min(total, _FLAC_LENGTH)).to_bytes(8) + info[18:]
    return Stream(start + 8 + _STREAMINFO, stop, content[start : start + 8] + info)


def _flac_samples(tail: bytes, block: int) -> int:
    """Number of samples by the last frame, which must be whole."""
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


def skip_id3(content: Content, position: int) -> int:
    """The byte after an ID3v2 tag, if one is there."""
    head = content[position : position + 10]
    if len(head) < 10 or head[:3] != b"ID3":
        return position
    size = 0
    for byte in head[6:10]:
        size = size << 7 | byte & 0x7F
    return position + 10 + size + (10 if head[5] & 0x10 else 0)
