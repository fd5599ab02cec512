"""What must hold before a decoder sees a sound file: a known container, whole, with a plain encoding.

libsndfile reads the first half of a truncated file without a word and starts decoders that have known holes,
so sizes are compared and encodings listed here first.
"""

from __future__ import annotations

import stat
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_MAX_CHUNKS = 10_000
_UNKNOWN_LENGTHS = {0xFFFFFFFF, 0x7FFFFFFF}
_WAV_ENCODINGS = {1, 3, 6, 7}  # PCM, float, A-law, mu-law
_EXTENSIBLE = 0xFFFE
_AIFC_ENCODINGS = {b"NONE", b"sowt", b"twos", b"in24", b"in32", b"raw "}
_AIFC_ENCODINGS |= {b"fl32", b"FL32", b"fl64", b"FL64", b"alaw", b"ALAW", b"ulaw", b"ULAW"}
_OGG_LAST_PAGE = 4
_MAX_OGG_PAGE = 65_307


class AudioError(ValueError):
    """A sound file cannot be used; the message names the file, the cause and, if there is one, the remedy."""

    def __init__(self, path: Path | str, cause: str) -> None:
        super().__init__(f"{path}: {cause}")
        self.path = Path(path)
        self.cause = cause


def check_container(path: Path) -> None:
    """Refuse what is no sound file, is cut off, or is encoded in a way that is not decoded here.

    Raises:
        AudioError: With the cause.
    """
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise AudioError(path, "is a folder, not a sound file.")
        if not stat.S_ISREG(status.st_mode):
            raise AudioError(path, "is not a regular file; save the sound to a file first.")
        if status.st_size == 0:
            raise AudioError(path, "is empty.")
        with path.open("rb") as file:
            _check_content(file, status.st_size)
    except FileNotFoundError:
        raise AudioError(path, "there is no such file.") from None
    except PermissionError:
        raise AudioError(path, "cannot be read: permission denied.") from None
    except OSError as error:
        raise AudioError(path, f"cannot be read: {error.strerror or error}.") from None
    except _Refusal as refusal:
        raise AudioError(path, str(refusal)) from None
    except ValueError as error:
        if isinstance(error, AudioError):
            raise
        raise AudioError(repr(str(path)), f"is no file name: {error}.") from None


class _Refusal(Exception):
    """A cause for which the file's name is still to be added."""


def _check_content(file: BinaryIO, size: int) -> None:
    magic = file.read(40)
    if magic[:4] in (b"RIFF", b"RIFX", b"RF64") and magic[8:12] == b"WAVE":
        _check_wav(file, size, ">" if magic[:4] == b"RIFX" else "<")
    elif magic[:4] == b"riff" and magic[24:28] == b"wave":
        _check_data(file, {name[:4]: place for name, *place in _w64_chunks(file, size)}, size, "<")
    elif magic[:4] == b"FORM" and magic[8:12] in (b"AIFF", b"AIFC"):
        _check_aiff(file, size)
    elif magic[:4] == b"OggS":
        _check_ogg(file, size)
    elif magic[:4] != b"fLaC" and not _looks_like_mp3(magic):
        raise _Refusal(f"is not a WAV, FLAC, OGG, MP3 or AIFF file; it starts with {magic[:12]!r}.")


def _looks_like_mp3(magic: bytes) -> bool:
    if magic[:3] == b"ID3":
        return True
    # Eleven sync bits, then a version and a layer that are not the reserved ones.
    return magic[0] == 0xFF and magic[1] & 0xE0 == 0xE0 and magic[1] & 0x18 != 0x08 and magic[1] & 0x06 != 0


def _chunks(file: BinaryIO, size: int, order: str) -> Iterator[tuple[bytes, int, int]]:
    """Name, place and length of each chunk of a RIFF or IFF file."""
    position = 12
    for _ in range(_MAX_CHUNKS):
        file.seek(position)
        header = file.read(8)
        if len(header) < 8:
            return
        name, length = struct.unpack(f"{order}4sI", header)
        yield name, position + 8, length
        position += 8 + length + length % 2
        if position >= size:
            return
    raise _Refusal(f"has more than {_MAX_CHUNKS} chunks.")


def _w64_chunks(file: BinaryIO, size: int) -> Iterator[tuple[bytes, int, int]]:
    position = 40
    for _ in range(_MAX_CHUNKS):
        file.seek(position)
        header = file.read(24)
        if len(header) < 24:
            return
        name, length = struct.unpack("<16sQ", header)  # the length counts the header
        if length < 24:
            raise _Refusal("is damaged: a chunk is shorter than its header.")
        yield name, position + 24, length - 24
        position += (length + 7) // 8 * 8
        if position >= size:
            return
    raise _Refusal(f"has more than {_MAX_CHUNKS} chunks.")


def _check_wav(file: BinaryIO, size: int, order: str) -> None:
    found: dict[bytes, list[int]] = {}
    for name, place, length in _chunks(file, size, order):
        if name == b"data" and b"ds64" in found:  # RF64 keeps the true length there
            file.seek(found[b"ds64"][0] + 8)
            length = int.from_bytes(file.read(8), "little")
        elif name == b"data" and length in _UNKNOWN_LENGTHS:
            raise _Refusal(
                "does not say how long it is, as programs write that cannot rewind; convert it first, "
                "e.g. with ffmpeg."
            )
        found.setdefault(name, [place, length])
        if name == b"data":
            break
    _check_data(file, found, size, order)


def _check_data(file: BinaryIO, found: dict[bytes, list[int]], size: int, order: str) -> None:
    """Check the ``fmt`` and ``data`` chunks of a WAV or W64 file."""
    if b"fmt " not in found:
        raise _Refusal("is damaged or cut off: it has no format header.")
    file.seek(found[b"fmt "][0])
    header = file.read(26)
    if len(header) < 16:
        raise _Refusal("is cut off inside its header.")
    encoding = struct.unpack(f"{order}H", header[:2])[0]
    if encoding == _EXTENSIBLE and len(header) == 26:
        encoding = struct.unpack(f"{order}H", header[24:26])[0]
    if encoding not in _WAV_ENCODINGS:
        raise _Refusal(f"has the WAV encoding {encoding:#06x}; only PCM, float, A-law and mu-law are read.")
    _check_length(found.get(b"data"), size)


def _check_aiff(file: BinaryIO, size: int) -> None:
    found: dict[bytes, list[int]] = {}
    for name, *place in _chunks(file, size, ">"):
        found.setdefault(name, place)
    file.seek(8)
    if file.read(4) == b"AIFC" and b"COMM" in found:
        file.seek(found[b"COMM"][0] + 18)
        if (encoding := file.read(4)) not in _AIFC_ENCODINGS:
            raise _Refusal(f"has the AIFF encoding {encoding!r}, which is not read.")
    _check_length(found.get(b"SSND"), size)


def _check_length(data: list[int] | None, size: int) -> None:
    if data is None:
        raise _Refusal("holds a header but no sound.")
    place, length = data
    if place + length > size:
        missing = place + length - size
        raise _Refusal(f"is cut off: {missing} of {length} bytes of sound are missing.")


def _check_ogg(file: BinaryIO, size: int) -> None:
    file.seek(max(0, size - 2 * _MAX_OGG_PAGE))
    tail = file.read()
    place = tail.rfind(b"OggS")
    page = tail[place:] if place >= 0 else b""
    complete = len(page) >= 27 and len(page) >= 27 + page[26] + sum(page[27 : 27 + page[26]])
    if not complete or not page[5] & _OGG_LAST_PAGE:
        raise _Refusal("is cut off: its last OGG page is not the end of the stream.")
