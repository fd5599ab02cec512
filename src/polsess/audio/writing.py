"""Writing sound files: whole or not at all, never with clipped or non-finite samples unnoticed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self, get_args

import numpy as np
import soundfile

from polsess.audio.containers import AudioError, native_name
from polsess.audio.samples import Samples, as_samples
from polsess.files import atomic_path
from polsess.system_errors import system_error

if TYPE_CHECKING:
    from torch import Tensor

Container = Literal["wav", "flac", "ogg", "mp3"]
Bits = Literal["16", "24", "32f"]
ClipMode = Literal["rescale", "clamp", "error"]
"""Treatment of samples beyond full scale: make all quieter, cut the peaks, or refuse."""

_SUBTYPES = {"16": "PCM_16", "24": "PCM_24", "32f": "FLOAT"}
_LOSSY = {"ogg": "VORBIS", "mp3": "MPEG_LAYER_III"}
_MP3_RATES = {8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000}
_WAV_LIMIT = 2**32 - 2**16
_BLOCK = 2**16
_ROUNDING = 1e-6


@dataclass(frozen=True)
class AudioFormat:
    """Container and sample format of a sound file.

    Args:
        container: Kind of file.
        bits: Bits per sample; None for 16. OGG and MP3 have none.

    Raises:
        ValueError: If the container cannot hold such samples.
    """

    container: Container = "wav"
    bits: Bits | None = None

    def __post_init__(self) -> None:
        if self.container not in get_args(Container):
            raise ValueError(f"format: expected wav, flac, ogg or mp3, got {self.container!r}.")
        if self.bits not in (None, *get_args(Bits)):
            raise ValueError(f"bits: expected 16, 24 or 32f, got {self.bits!r}.")
        if self.container in _LOSSY and self.bits is not None:
            raise ValueError(f"bits: {self.container} is lossy and has no bits per sample; leave it out.")
        if self.container == "flac" and self.bits == "32f":
            raise ValueError("bits: flac holds no 32f; use 24 bits or wav.")

    @classmethod
    def of(cls, path: Path | str, bits: Bits | None = None) -> AudioFormat:
        """Format by the suffix of a file name.

        Raises:
            ValueError: If there is no such format, or it has no such samples.
        """
        if (container := _suffix(path)) not in get_args(Container):
            raise AudioError(path, "format: expected a name that ends in .wav, .flac, .ogg or .mp3.")
        return cls(container, bits)  # type: ignore[arg-type]

    def check_name(self, path: Path | str) -> None:
        """Refuse a name that ends in another format; other endings, or none, are the user's choice.

        Raises:
            AudioError: Naming the file that would not hold what its name says.
        """
        if (suffix := _suffix(path)) in get_args(Container) and suffix != self.container:
            raise AudioError(path, f"would hold {self.container}; end the name in .{self.container}.")

    def check_rate(self, sample_rate: int, path: Path | str) -> None:
        """Refuse a rate in Hz that the container does not support.

        Raises:
            AudioError: Naming the file that cannot be written.
        """
        if self.container == "mp3" and sample_rate not in _MP3_RATES:
            raise AudioError(path, f"MP3 has no rate of {sample_rate} Hz; write WAV, FLAC or OGG.")

    @property
    def subtype(self) -> str:
        """Name of the encoding in libsndfile."""
        return _LOSSY.get(self.container) or _SUBTYPES[self.bits or "16"]

    @property
    def bytes_per_sample(self) -> int:
        """Size of a sample before any compression."""
        return 4 if self.bits == "32f" else 3 if self.bits == "24" else 2

    @property
    def holds_peaks(self) -> bool:
        """Whether samples beyond full scale can be stored."""
        return self.bits == "32f"


def _suffix(path: Path | str) -> str:
    return Path(path).suffix.lower().removeprefix(".")


def peak_gain(peak: float, audio_format: AudioFormat, clip_mode: ClipMode) -> float:
    """Gain for writing a sound so that nothing is clipped unless the clip mode allows it.

    Args:
        peak: Largest magnitude among all sounds that belong together.
        audio_format: Format of the file.
        clip_mode: Treatment of samples beyond full scale.

    Returns:
        1, or for ``"rescale"`` at most 1 over the peak.

    Raises:
        ValueError: If there is clipping and ``clip_mode`` is ``"error"``.
    """
    if audio_format.holds_peaks or peak <= 1.0 or clip_mode == "clamp":
        return 1.0
    if clip_mode == "rescale":
        return 1.0 / peak
    raise ValueError(
        f"peak {peak:.3f} is beyond full scale; write 32f, or choose the clip mode rescale or clamp."
    )


class _Unflushed(soundfile.SoundFile):  # type: ignore[misc]
    """A file that is not forced to disk when it is closed: whoever gives it its name does so."""

    def flush(self) -> None:
        """Nothing."""


class AudioWriter:
    """An open sound file that is written in blocks; use it in a ``with`` block.

    It writes at ``path`` directly: pair it with ``polsess.files.atomic_path``.

    Args:
        path: File to write.
        sample_rate: Rate in Hz.
        num_channels: Rows of every block.
        num_samples: Samples per channel of the whole file, to choose RF64 beyond 4 GiB.
        audio_format: Container and sample format.
        clamp: Whether to cut peaks beyond full scale; else they are an error.
        name: Name for messages if ``path`` is a temporary file.

    Raises:
        AudioError: If the file cannot be made or the format has no such rate or channels.
    """

    def __init__(
        self,
        path: Path,
        sample_rate: int,
        num_channels: int,
        num_samples: int,
        audio_format: AudioFormat,
        clamp: bool = False,
        name: Path | str | None = None,
    ) -> None:
        self._name, self._format, self._clamp = name or path, audio_format, clamp
        audio_format.check_rate(sample_rate, self._name)
        audio_format.check_name(self._name)
        huge = num_samples * num_channels * audio_format.bytes_per_sample > _WAV_LIMIT
        kind = "RF64" if audio_format.container == "wav" and huge else audio_format.container.upper()
        try:
            self._file = _Unflushed(
                native_name(path), "w", sample_rate, num_channels, audio_format.subtype, format=kind
            )
        except (soundfile.SoundFileError, OSError, ValueError) as error:
            raise AudioError(self._name, f"cannot be written as {kind}: {error}") from None

    def write(self, block: Samples | Tensor) -> None:
        """Append samples ``[channels, n]``.

        Raises:
            AudioError: If they hold NaN or infinity, or exceed full scale.
            OSError: If the disk is full.
        """
        samples = as_samples(block).T
        peak = float(np.abs(samples).max(initial=0.0))
        if not np.isfinite(peak):
            raise AudioError(self._name, "was not written: the samples hold NaN or infinity.")
        if peak > 1.0 + _ROUNDING and not self._clamp and not self._format.holds_peaks:
            raise AudioError(self._name, f"was not written: its peak {peak:.3f} would be clipped.")
        try:
            # Small pieces: the Vorbis encoder of libsndfile overflows its stack on large ones.
            for start in range(0, len(samples), _BLOCK):
                self._file.write(self._quantize(samples[start : start + _BLOCK]))
        except (soundfile.SoundFileError, OSError) as error:
            known = system_error(error, Path(self._name))
            raise known or AudioError(self._name, f"cannot be written: {error}") from None

    def _quantize(self, samples: np.ndarray) -> np.ndarray:
        """Round to integers where the file holds integers, so that 16-bit samples are written unchanged."""
        if self._format.holds_peaks:
            return np.ascontiguousarray(samples)
        if self._format.subtype == "PCM_16":
            return np.rint(samples * 2.0**15).clip(-(2**15), 2**15 - 1).astype(np.int16)
        if self._format.subtype == "PCM_24":
            return np.rint(samples * 2.0**23).clip(-(2**23), 2**23 - 1).astype(np.int32) << 8
        return np.ascontiguousarray(samples.clip(-1.0, 1.0))

    def close(self) -> None:
        """Finish the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def write_audio(
    path: Path | str,
    samples: Samples | Tensor,
    sample_rate: int,
    *,
    bits: Bits | None = None,
    clip_mode: ClipMode = "error",
) -> float:
    """Write a sound file atomically.

    Args:
        path: File name with the suffix .wav, .flac, .ogg or .mp3, which picks the container.
        samples: ``[T]`` or ``[channels, T]``.
        sample_rate: Rate in Hz.
        bits: 16, 24 or 32f per sample; None for 16.
        clip_mode: Treatment of samples beyond full scale.

    Returns:
        Gain that was applied; 1 unless ``"rescale"`` had to act.

    Raises:
        ValueError: If the ending, the bits or the shape is wrong, or samples would be clipped.
        AudioError: If the samples are not finite or the file cannot be written.
    """
    path, audio_format = Path(path), AudioFormat.of(path, bits)
    rows = as_samples(samples)
    if rows.ndim not in (1, 2) or rows.size == 0:
        raise ValueError(f"samples: expected [T] or [channels, T] with T > 0, got {list(rows.shape)}.")
    rows = rows.reshape(-1, rows.shape[-1])
    if not np.isfinite(rows).all():
        raise AudioError(path, "was not written: the samples hold NaN or infinity.")
    gain = peak_gain(float(np.abs(rows).max()), audio_format, clip_mode)
    clamp, (channels, length) = clip_mode == "clamp", rows.shape
    with (
        atomic_path(path) as temporary,
        AudioWriter(temporary, sample_rate, channels, length, audio_format, clamp, path) as writer,
    ):
        writer.write(rows * np.float32(gain))
    return gain
