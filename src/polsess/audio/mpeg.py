"""The frames of MP3 files (ISO 11172-3, 13818-3), each with its length in its header.

A first frame called Xing or Info holds the number of frames; without it libsndfile estimates the length from
the size of the file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from polsess.audio.streams import Content, Refusal, Stream, skip_id3

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


def looks_like_mp3(magic: bytes) -> bool:
    """Whether a file that starts with these bytes is taken for an MP3 file."""
    return magic[:3] == b"ID3" or _frame(magic[:4]) is not None or _is_free_format(magic[:4])


def mp3_streams(content: Content) -> list[Stream]:
    """The streams of an MP3 file, each with its true length; none where it can be read as it is.

    Raises:
        Refusal: If frames are missing, or there are none.
    """
    start = skip_id3(content, 0)
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
        return max(skip_id3(content, position), position + 1)
    if tag[:3] == b"TAG":
        return position + 128
    if tag == b"APETAGEX":
        return position + 32 + struct.unpack("<I", content[position + 12 : position + 16].ljust(4, b"\0"))[0]
    while (position := content.find(b"\xff", position + 1)) >= 0:
        frame = _frame(content[position : position + 4])
        if frame is not None and _follows(content, position, frame):
            return position
    return len(content)
