"""Reading sound files, whole, in part or block by block, with every doubt about the content an error."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from torch import Tensor

from polsess.audio.containers import AudioError, check_container
from polsess.audio.plain_wav import MAX_CHANNELS, RATES, read_plain_header, read_plain_pcm

AUDIO_SUFFIXES = frozenset(
    {".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".w64", ".rf64"}
)
"""File names that a search through a folder takes for sound files."""

_CONTAINERS = {"WAV", "WAVEX", "RF64", "W64", "AIFF", "FLAC", "OGG", "MP3"}
_ENCODINGS = {"PCM_U8", "PCM_S8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"}
_ENCODINGS |= {"VORBIS", "OPUS", "MPEG_LAYER_III"}
_MAX_VALUES = 2**30
"""Samples times channels that are read at once: 4 GiB."""
_MAX_SAMPLES_PER_BYTE = 65_536
"""More than any codec here reaches on silence; a header that claims more is false."""
_MAX_AMPLITUDE = 2.0**31
"""Float files at the scale of 32-bit integers exist; beyond that the samples are no sound."""


@dataclass(frozen=True)
class AudioInfo:
    """What the header of a sound file says."""

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


class AudioReader:
    """An open sound file, read from front to back; use it in a ``with`` block.

    Args:
        path: A WAV (also RF64, W64), FLAC, OGG (Vorbis, Opus), MP3 or AIFF file.

    Raises:
        AudioError: If the file is missing, no sound, cut off, empty, or its header cannot be true.
    """

    def __init__(self, path: Path | str) -> None:
        path = Path(path)
        check_container(path)
        try:
            self._file = soundfile.SoundFile(path)
        except (soundfile.SoundFileError, OSError, ValueError) as error:
            raise AudioError(path, f"cannot be decoded: {_reason(error)}") from None
        file = self._file
        self.info = AudioInfo(path, file.samplerate, file.channels, file.frames, file.format, file.subtype)
        try:
            _check_header(self.info)
        except AudioError:
            self.close()
            raise

    def seek(self, start: int) -> None:
        """Move to a sample, counted from the start of the file.

        Raises:
            AudioError: If the file has no such place.
        """
        try:
            self._file.seek(start)
        except (soundfile.SoundFileError, OSError) as error:
            raise AudioError(self.info.path, f"cannot go to sample {start}: {_reason(error)}") from None

    def read(self, num_samples: int) -> Tensor:
        """The next samples, ``[channels, num_samples]`` in float32.

        Raises:
            AudioError: If the file ends before, cannot be decoded, or holds NaN or infinity.
        """
        path = self.info.path
        if num_samples * self.info.num_channels > _MAX_VALUES:
            raise AudioError(path, f"{num_samples} samples do not fit in memory; read it in blocks.")
        try:
            block = self._file.read(num_samples, dtype="float32", always_2d=True)
        except (soundfile.SoundFileError, OSError) as error:
            raise AudioError(path, f"cannot be decoded: {_reason(error)}") from None
        if len(block) != num_samples:
            raise AudioError(path, f"is cut off: {num_samples - len(block)} announced samples are missing.")
        if not np.abs(block).max(initial=0.0) <= _MAX_AMPLITUDE:  # NaN compares false
            raise AudioError(path, "holds samples that are NaN, infinite or absurdly large.")
        return torch.from_numpy(np.ascontiguousarray(block.T))

    def blocks(self, block_samples: int) -> Iterator[Tensor]:
        """The file from its start in blocks ``[channels, n]``; the last one may be shorter."""
        self.seek(0)
        for start in range(0, self.info.num_samples, block_samples):
            yield self.read(min(block_samples, self.info.num_samples - start))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

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
        return _to_float(samples), header.sample_rate
    with AudioReader(path) as reader:
        total = reader.info.num_samples
        stop = total if num_samples is None else start + num_samples
        if not 0 <= start < stop <= total:
            raise AudioError(path, f"has {total} samples; asked for samples {start} to {stop}.")
        if start:
            reader.seek(start)
        return reader.read(stop - start), reader.info.sample_rate


def _to_float(samples: NDArray[np.int16]) -> Tensor:
    """``[T, channels]`` at full scale 2^15 to ``[channels, T]`` at 1."""
    scaled = samples.T.astype(np.float32, order="C")
    scaled *= np.float32(2.0**-15)
    return torch.from_numpy(scaled)


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
