"""Reading of sound files, whole, in part or block by block; doubtful content is an error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import soundfile
from numpy.typing import NDArray

from polsess.audio.containers import AudioError, Layout, check_container, native_name
from polsess.audio.ffmpeg import FFmpegFile
from polsess.audio.plain_wav import MAX_CHANNELS, RATES, read_plain_header, read_plain_pcm
from polsess.audio.samples import Samples, as_tensor
from polsess.audio.streams import Refusal, Stream, StreamFile
from polsess.text_tables import counted

if TYPE_CHECKING:
    from torch import Tensor

_CONTAINERS = {"WAV", "WAVEX", "RF64", "W64", "AIFF", "FLAC", "OGG", "MP3", "FFMPEG"}
_ENCODINGS = {"PCM_U8", "PCM_S8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"}
_ENCODINGS |= {"VORBIS", "OPUS", "MPEG_LAYER_III"}
_LOSSY = {"VORBIS", "OPUS", "MPEG_LAYER_III"}
_PREROLL = 24 * 1152
"""Samples that are decoded before a wanted one: at the lowest bitrates a frame of MP3 needs ten others."""
_MAX_VALUES = 2**30
"""Samples times channels that are read at once: 4 GiB."""
_MAX_SAMPLES_PER_BYTE = 65_536
"""More than any codec here reaches on silence; a header that claims more is false."""
_MAX_AMPLITUDE = 2.0**31
"""Float files at the scale of 32-bit integers exist; larger samples are not sound."""

_Decoder = Any
"""A ``soundfile.SoundFile``, which has no types, or an ``FFmpegFile``, which has the same attributes."""
_ERRORS = (soundfile.SoundFileError, OSError, ValueError, Refusal)


@dataclass(frozen=True)
class AudioInfo:
    """Facts from the header of a sound file."""

    path: Path
    sample_rate: int
    num_channels: int
    num_samples: int
    """Per channel."""
    container: str
    encoding: str

    @property
    def duration_seconds(self) -> float:
        """Length in seconds."""
        return self.num_samples / self.sample_rate


class _SoundFile(soundfile.SoundFile):  # type: ignore[misc]
    """A file that stays where a read ends; soundfile seeks there, which makes MP3 wrong for half a frame."""

    def __init__(self, source: Path | StreamFile) -> None:
        self._source = source
        super().__init__(source if isinstance(source, StreamFile) else native_name(source))

    def seekable(self) -> bool:
        """Always false; ``seek`` works none the less."""
        return False

    def close(self) -> None:
        super().close()
        if isinstance(self._source, StreamFile):
            self._source.close()


class AudioReader:
    """An open sound file, read from front to back; use it in a ``with`` block.

    Args:
        path: A WAV (also RF64, W64), FLAC, OGG (Vorbis, Opus), MP3 or AIFF file, or another one that ffmpeg
            decodes if it is installed. Streams that follow each other in one file are one sound.

    Raises:
        AudioError: If the file is missing, no sound, cut off, empty, or its header cannot be true.
    """

    def __init__(self, path: Path | str) -> None:
        path = Path(path)
        self._openers = _list_openers(path, check_container(path))
        self._lengths: list[int] = []
        self._decoder: _Decoder = None
        self._part = self._position = 0
        form: tuple[int, int] | None = None
        try:
            for number, opener in enumerate(self._openers):
                self.close()
                self._decoder, self._part = opener(), number
                decoder = self._decoder
                form = form or (decoder.samplerate, decoder.channels)
                _check_form(path, form, (decoder.samplerate, decoder.channels))
                self._lengths.append(decoder.frames)
            total = sum(self._lengths)
            rate, channels = form or (0, 0)
            self.info = AudioInfo(path, rate, channels, total, decoder.format, decoder.subtype)
            _check_header(self.info)
            self._go_to(0, 0)
        except _ERRORS as error:
            self.close()
            raise _named(path, error) from None

    def seek(self, start: int) -> None:
        """Move to a sample, counted from the start of the file.

        Raises:
            AudioError: If the file has no such place.
        """
        part = 0
        while part < len(self._lengths) - 1 and start >= self._lengths[part]:
            start -= self._lengths[part]
            part += 1
        try:
            self._go_to(part, start)
        except _ERRORS as error:
            raise _named(self.info.path, error) from None

    def read(self, num_samples: int) -> Samples:
        """The next samples, ``[channels, num_samples]`` in float32.

        Raises:
            AudioError: If the file ends before, cannot be decoded, or holds NaN or infinity.
        """
        path = self.info.path
        if num_samples * self.info.num_channels > _MAX_VALUES:
            raise AudioError(path, f"{num_samples} samples do not fit in memory; read it in blocks.")
        try:
            block = self._read(num_samples)
        except _ERRORS as error:
            raise _named(path, error) from None
        if len(block) != num_samples:
            raise AudioError(path, f"is cut off: {num_samples - len(block)} announced samples are missing.")
        if not np.abs(block).max(initial=0.0) <= _MAX_AMPLITUDE:  # NaN compares false
            raise AudioError(path, "holds samples that are NaN, infinite or absurdly large.")
        return np.ascontiguousarray(block.T)

    def _read(self, num_samples: int) -> Samples:
        """The next samples ``[n, channels]``, across the ends of streams; fewer where the file ends."""
        blocks: list[Samples] = []
        missing = num_samples
        while True:
            count = min(missing, self._lengths[self._part] - self._position)
            blocks.append(self._decoder.read(count, dtype="float32", always_2d=True))
            self._position += len(blocks[-1])
            missing -= len(blocks[-1])
            if not missing or len(blocks[-1]) < count or self._part == len(self._lengths) - 1:
                return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
            self._go_to(self._part + 1, 0)

    def _go_to(self, part: int, sample: int) -> None:
        """Move to a sample of a stream.

        A frame of a lossy stream needs those before it, which libsndfile leaves out after a seek. So the seek
        goes further back, or to a new decoder at the start, and what comes before the sample is dropped.
        """
        lossy = self.info.encoding in _LOSSY
        start = max(0, sample - _PREROLL) if lossy and sample != self._position else sample
        if self._decoder is None or part != self._part or (lossy and start == 0 and self._position):
            self.close()
            self._decoder, self._part, self._position = self._openers[part](), part, 0
        if start != self._position:
            self._decoder.seek(start)
        if start != sample:
            self._decoder.read(sample - start, dtype="float32", always_2d=True)
        self._position = sample

    def blocks(self, block_samples: int) -> Iterator[Samples]:
        """The file from its start in blocks ``[channels, n]``; the last one may be shorter."""
        self.seek(0)
        for start in range(0, self.info.num_samples, block_samples):
            yield self.read(min(block_samples, self.info.num_samples - start))

    def close(self) -> None:
        """Close the file."""
        if self._decoder is not None:
            self._decoder.close()
            self._decoder = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_audio_info(path: Path | str) -> AudioInfo:
    """Read and check the header of a sound file.

    Raises:
        AudioError: As ``AudioReader``.
    """
    if plain := read_plain_header(path):
        count, channels = plain.num_samples, plain.num_channels
        return AudioInfo(Path(path), plain.sample_rate, channels, count, "WAV", "PCM_16")
    with AudioReader(path) as reader:
        return reader.info


def read_audio(path: Path | str, start: int = 0, num_samples: int | None = None) -> tuple[Tensor, int]:
    """Read a sound file or a part of it.

    Args:
        path: The file.
        start: The first sample.
        num_samples: How many samples per channel; None for all that follow.

    Returns:
        Samples ``[channels, T]`` in float32, and the sample rate in Hz.

    Raises:
        AudioError: As ``AudioReader``, or if the part lies outside the file.
    """
    if plain := read_plain_pcm(path, start, num_samples):
        samples, header = plain
        return as_tensor(_to_float(samples)), header.sample_rate
    with AudioReader(path) as reader:
        total = reader.info.num_samples
        stop = total if num_samples is None else start + num_samples
        if not 0 <= start < stop <= total:
            raise AudioError(path, f"has {total} samples; asked for samples {start} to {stop}.")
        if start:
            reader.seek(start)
        return as_tensor(reader.read(stop - start)), reader.info.sample_rate


def _to_float(samples: NDArray[np.int16]) -> Samples:
    """``[T, channels]`` at full scale 2^15 to ``[channels, T]`` at 1."""
    scaled = samples.T.astype(np.float32, order="C")
    scaled *= np.float32(2.0**-15)
    return scaled


def _list_openers(path: Path, layout: Layout) -> list[Callable[[], _Decoder]]:
    """Functions that open the streams of a file."""
    if layout.demuxer is not None:
        most = path.stat().st_size * _MAX_SAMPLES_PER_BYTE
        return [partial(FFmpegFile, path, layout.demuxer, most)]
    if layout.streams:
        return [partial(_open_stream, path, stream) for stream in layout.streams]
    return [partial(_SoundFile, path)]


def _open_stream(path: Path, stream: Stream) -> _Decoder:
    source = StreamFile(path, stream)
    try:
        return _SoundFile(source)
    except BaseException:
        source.close()
        raise


def _check_form(path: Path, first: tuple[int, int], form: tuple[int, int]) -> None:
    """Refuse a stream whose rate or channels are not those of the first one."""
    if form != first:
        text = " and ".join(
            f"{rate} Hz with {counted(channels, 'channel')}" for rate, channels in (first, form)
        )
        raise AudioError(path, f"holds sounds of {text} one after the other; split it into files.")


def _named(path: Path, error: Exception) -> AudioError:
    """An error of a decoder with the name of the file."""
    if isinstance(error, AudioError):
        return error
    cause = str(error) if isinstance(error, Refusal) else f"cannot be decoded: {_reason(error)}"
    return AudioError(path, cause)


def _check_header(info: AudioInfo) -> None:
    if info.container not in _CONTAINERS or info.encoding not in _ENCODINGS:
        raise AudioError(info.path, f"is encoded as {info.container} {info.encoding}, which is not read.")
    if info.sample_rate not in RATES:
        raise AudioError(
            info.path, f"claims a rate of {info.sample_rate} Hz; expected {RATES.start} to {RATES[-1]}."
        )
    if info.num_channels > MAX_CHANNELS:
        raise AudioError(info.path, f"claims {info.num_channels} channels; at most {MAX_CHANNELS} are read.")
    if info.num_samples <= 0:
        raise AudioError(info.path, "holds no samples.")
    size = info.path.stat().st_size
    if info.num_samples > size * _MAX_SAMPLES_PER_BYTE:
        raise AudioError(info.path, f"claims {info.num_samples} samples in {size} bytes; it is damaged.")


def _reason(error: Exception) -> str:
    return getattr(error, "error_string", "") or str(error) or type(error).__name__
