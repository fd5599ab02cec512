"""Checks before a decoder sees a sound file: a known container, whole, with a plain encoding.

libsndfile reads the first half of a truncated file without an error and starts decoders with known holes, so
sizes are compared and encodings are listed here first.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from polsess.audio.ffmpeg import demuxer_of, find_ffmpeg
from polsess.audio.mpeg import looks_like_mp3, mp3_streams
from polsess.audio.streams import Content, Refusal, Stream, flac_streams, ogg_streams, skip_id3
from polsess.files import show_bytes

_MAX_CHUNKS = 10_000
_COPIED = 2**20
_PLACEHOLDERS = (2**31, 2**32, 2**63, 2**64)
"""Lengths near these are written by programs that do not know the length, e.g. 0x7FFFF000 and 0xFFFFFFFF."""
_PLACEHOLDER_MARGIN = 4096
_WAV_ENCODINGS = {1, 3, 6, 7}  # PCM, float, A-law, mu-law
_FFMPEG_ENCODINGS = {2, 0x11, 0x31, 0x45, 0x50, 0x55, 0xFF}  # ADPCM, GSM, G.726, MPEG, AAC
_MAGICS = {b"RIFF", b"RIFX", b"RF64", b"riff", b"FORM", b"fLaC", b"OggS"}
_OGG_OTHERS = (b"Speex   ", b"\x7fFLAC", b"\x80theora")
_OGG_HEADER = 256
_EXTENSIBLE = 0xFFFE
_AIFC_ENCODINGS = {b"NONE", b"sowt", b"twos", b"in24", b"in32", b"raw "}
_AIFC_ENCODINGS |= {b"fl32", b"FL32", b"fl64", b"FL64", b"alaw", b"ALAW", b"ulaw", b"ULAW"}


class AudioError(ValueError):
    """A sound file cannot be used; the message names the file, the cause and, if there is one, the remedy."""

    def __init__(self, path: Path | str, cause: str) -> None:
        super().__init__(f"{path}: {cause}")
        self.path = Path(path)
        self.cause = cause


@dataclass(frozen=True)
class Layout:
    """How a file is to be decoded."""

    streams: Sequence[Stream] = ()
    """Streams to be decoded one after the other; none for the file as it is."""
    demuxer: str | None = None
    """ffmpeg's name of the kind of file; None where libsndfile decodes it."""


def native_name(path: Path) -> str | bytes:
    """A file's name as libsndfile takes it: on Unix its bytes, which need not be UTF-8."""
    return str(path) if os.name == "nt" else os.fsencode(path)


def check_container(path: Path) -> Layout:
    """Refuse a file that is no sound file, is cut off, or has an encoding that nothing decodes.

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
            return _check_content(file, status.st_size)
    except FileNotFoundError:
        raise AudioError(path, "there is no such file.") from None
    except PermissionError:
        raise AudioError(path, "cannot be read: permission denied.") from None
    except OSError as error:
        raise AudioError(path, f"cannot be read: {error.strerror or error}.") from None
    except Refusal as refusal:
        raise AudioError(path, str(refusal)) from None
    except ValueError as error:
        if isinstance(error, AudioError):
            raise
        raise AudioError(repr(str(path)), f"is no file name: {error}.") from None


def save_stream(stream: BinaryIO, target: Path) -> None:
    """Save a sound that comes through a pipe, whose end is its true length.

    A program that writes WAV into a pipe cannot go back to its header, which then holds no true length.

    Raises:
        AudioError: If nothing comes.
        OSError: If the disk is full.
    """
    with target.open("wb+") as file:
        shutil.copyfileobj(stream, file, _COPIED)
        size = file.tell()
        if size == 0:
            raise AudioError(target, "is empty.")
        file.seek(0)
        magic = file.read(12)
        if magic[:4] != b"RIFF" or magic[8:] != b"WAVE":
            return
        with contextlib.suppress(Refusal):
            for name, place, length in _chunks(file, size, "<"):
                true = size - place
                if (
                    name == b"data"
                    and _is_unfinished(file, place, length, size, "<")
                    and true < 2**32 - place
                ):
                    for position, value in ((place - 4, true), (4, size - 8)):
                        file.seek(position)
                        file.write(struct.pack("<I", value))
                    return


def _check_content(file: BinaryIO, size: int) -> Layout:
    magic = file.read(40)
    if magic[:4] in (b"RIFF", b"RIFX", b"RF64") and magic[8:12] == b"WAVE":
        return _check_wav(file, size, ">" if magic[:4] == b"RIFX" else "<")
    if magic[:4] == b"riff" and magic[24:28] == b"wave":
        return _check_data(
            file, {name[:4]: place for name, *place in _w64_chunks(file, size)}, size, "<", "w64"
        )
    if magic[:4] == b"FORM" and magic[8:12] in (b"AIFF", b"AIFC"):
        return _check_aiff(file, size)
    if magic[:4] == b"OggS" and any(name in file.read(_OGG_HEADER) for name in _OGG_OTHERS):
        return Layout(demuxer="ogg")
    if (demuxer := demuxer_of(magic)) is not None:
        return Layout(demuxer=demuxer)
    if magic[:4] in (b"OggS", b"fLaC") or looks_like_mp3(magic):
        return Layout(_find_streams(Content(file)))
    raise Refusal(f"is not a WAV, FLAC, OGG, MP3 or AIFF file; it starts with {show_bytes(magic[:12])}.")


def _find_streams(content: Content) -> list[Stream]:
    if content[:4] == b"OggS":
        return ogg_streams(content)
    start = skip_id3(content, 0)
    if content[start : start + 4] == b"fLaC":
        return flac_streams(content, start)
    return mp3_streams(content)


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
    raise Refusal(f"has more than {_MAX_CHUNKS} chunks.")


def _w64_chunks(file: BinaryIO, size: int) -> Iterator[tuple[bytes, int, int]]:
    position = 40
    for _ in range(_MAX_CHUNKS):
        file.seek(position)
        header = file.read(24)
        if len(header) < 24:
            return
        name, length = struct.unpack("<16sQ", header)  # the length counts the header
        if length == 0 and name[:4] == b"data":  # never written
            yield name, position + 24, 0
            return
        if length < 24:
            raise Refusal("is damaged: a chunk is shorter than its header.")
        yield name, position + 24, length - 24
        position += (length + 7) // 8 * 8
        if position >= size:
            return
    raise Refusal(f"has more than {_MAX_CHUNKS} chunks.")


def _check_wav(file: BinaryIO, size: int, order: str) -> Layout:
    found: dict[bytes, list[int]] = {}
    for name, place, length in _chunks(file, size, order):
        if name == b"data" and b"ds64" in found:  # RF64 keeps the true length there
            file.seek(found[b"ds64"][0] + 8)
            length = int.from_bytes(file.read(8), "little")
        found.setdefault(name, [place, length])
        if name == b"data":
            break
    return _check_data(file, found, size, order, "wav")


def _check_data(file: BinaryIO, found: dict[bytes, list[int]], size: int, order: str, demuxer: str) -> Layout:
    """Check the ``fmt`` and ``data`` chunks of a WAV or W64 file."""
    if b"fmt " not in found:
        raise Refusal("is damaged or cut off: it has no format header.")
    file.seek(found[b"fmt "][0])
    header = file.read(26)
    if len(header) < 16:
        raise Refusal("is cut off inside its header.")
    encoding = struct.unpack(f"{order}H", header[:2])[0]
    if encoding == _EXTENSIBLE and len(header) == 26:
        encoding = struct.unpack(f"{order}H", header[24:26])[0]
    _check_length(file, found.get(b"data"), size, order)
    if encoding in _WAV_ENCODINGS:
        return Layout()
    if encoding in _FFMPEG_ENCODINGS and find_ffmpeg():
        return Layout(demuxer=demuxer)
    remedy = " without ffmpeg" if encoding in _FFMPEG_ENCODINGS else ""
    raise Refusal(
        f"has the WAV encoding {encoding:#06x}; only PCM, float, A-law and mu-law are read{remedy}."
    )


def _check_aiff(file: BinaryIO, size: int) -> Layout:
    found: dict[bytes, list[int]] = {}
    for name, *place in _chunks(file, size, ">"):
        found.setdefault(name, place)
    file.seek(8)
    if file.read(4) == b"AIFC" and b"COMM" in found:
        file.seek(found[b"COMM"][0] + 18)
        if (encoding := file.read(4)) not in _AIFC_ENCODINGS:
            raise Refusal(f"has the AIFF encoding {encoding!r}, which is not read.")
    _check_length(file, found.get(b"SSND"), size, ">")
    return Layout()


def _check_length(file: BinaryIO, data: list[int] | None, size: int, order: str) -> None:
    """Compare the length in a header with the size of the file."""
    if data is None:
        raise Refusal("holds a header but no sound.")
    place, length = data
    missing = place + length - size
    if _is_unfinished(file, place, length, size, order):
        raise Refusal(
            "does not say how long it is: the program that wrote it could not go back, or ended too early; "
            "convert it first, e.g. with ffmpeg."
        )
    if missing > 0:
        raise Refusal(f"is cut off: {missing} of {length} bytes of sound are missing.")
    _check_rest(file, place + length + length % 2, size, order)


def _is_unfinished(file: BinaryIO, place: int, length: int, size: int, order: str) -> bool:
    """Whether the length of the sound in a header was never written, by its value."""
    if length == 0:
        return place < size and not _is_chunk(file, place, size, order)
    near = any(-_PLACEHOLDER_MARGIN <= length - value <= _PLACEHOLDER_MARGIN for value in _PLACEHOLDERS)
    return near and place + length > size


def _check_rest(file: BinaryIO, position: int, size: int, order: str) -> None:
    """Refuse a file in which another one follows the sound and its chunks, because it would not be read."""
    for _ in range(_MAX_CHUNKS):
        file.seek(position)
        header = file.read(8)
        if header[:4] in _MAGICS:
            raise Refusal("holds another sound file after the first one; split it into files.")
        if len(header) < 8 or not _is_chunk(file, position, size, order):
            return
        length = struct.unpack(f"{order}I", header[4:])[0]
        position += 8 + length + length % 2


def _is_chunk(file: BinaryIO, place: int, size: int, order: str) -> bool:
    """Whether the header of a chunk that fits into the file is at a place."""
    file.seek(place)
    header = file.read(8)
    if len(header) < 8:
        return False
    name, length = struct.unpack(f"{order}4sI", header)
    return name.isalnum() and place + 8 + length <= size
