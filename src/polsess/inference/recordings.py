"""Input of a separation: a file read block by block, or samples in memory, behind one interface."""

from __future__ import annotations

import contextlib
import io
import math
import tempfile
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, Literal, Self, Union

import numpy as np
from numpy.typing import NDArray

from polsess.audio import AudioReader, Samples, StreamResampler, as_samples, channel_weights, save_stream
from polsess.audio.plain_wav import MAX_CHANNELS, RATES

if TYPE_CHECKING:
    from torch import Tensor

Audio = Union["Tensor", NDArray[np.floating], Path, str, BinaryIO]
"""A recording: samples, the path of a sound file, or an open one."""
Channels = Literal["mix", "each"]
"""Treatment of several channels: separate their mean, or each by itself."""

_BLOCK_SECONDS = 30.0
_TARGET_RMS = 2.0**-5
"""About -30 dBFS, a usual level of speech corpora."""
_MAX_EXPONENT = 60
_LEVEL_FRAME_SECONDS = 0.05
_MIN_OFFSET = 0.1
"""Smallest offset that is removed, as a share of the standard deviation of its channel."""
_ROUNDING = 1e-12
"""Share of the power with an offset that is nothing without it."""


class Recording(ABC):
    """A sound of known length that can be read from its start any number of times."""

    sample_rate: int
    num_channels: int
    num_samples: int
    name: str
    frame_levels: NDArray[np.float32]
    """Mean squares of short frames, without their offsets, over all channels ``[L]``; found by
    ``working_gain``."""

    @property
    def level_frame(self) -> int:
        """Samples of the frames of ``frame_levels``."""
        return max(1, round(_LEVEL_FRAME_SECONDS * self.sample_rate))

    @cached_property
    def _weights(self) -> Samples:
        """Weights of the channels in their mix; ``working_gain`` replaces them where channels cancel."""
        return np.full(self.num_channels, 1 / self.num_channels, np.float32)

    @cached_property
    def _offsets(self) -> Samples:
        """Constant to remove from each channel; ``working_gain`` finds it."""
        return np.zeros((self.num_channels, 1), np.float32)

    @abstractmethod
    def _read(self, block_samples: int) -> Iterator[Samples]: ...

    def blocks(self, channels: Channels) -> Iterator[Samples]:
        """The sound from its start, ``[K, n]`` per block, K = 1 for ``"mix"``."""
        for block in self._read(round(_BLOCK_SECONDS * self.sample_rate) or 1):
            centred = block - self._offsets
            yield self.mix(centred) if channels == "mix" else centred

    def mix(self, block: Samples) -> Samples:
        """The mean of the channels ``[1, n]`` of a block ``[channels, n]``."""
        return (self._weights @ block)[None]

    def resampled(self, channels: Channels, rate: int, gain: float) -> Iterator[Samples]:
        """As ``blocks``, at another rate and multiplied by ``gain``."""
        rows = 1 if channels == "mix" else self.num_channels
        stream, taken = StreamResampler(self.sample_rate, rate, rows), 0
        for block in self.blocks(channels):
            taken += block.shape[-1]
            yield stream.push(block * np.float32(gain), last=taken >= self.num_samples)

    def working_gain(self, channels: Channels) -> float:
        """A power of two that brings the sound to a usual level, so that a quiet recording is no harder.

        Finds the weights of the channels, their offsets and the levels of frames as well; ``blocks`` uses the
        former from then on.

        Reading everything once also finds a damaged file before hours are spent on its first half.
        """
        products, sums = np.zeros((self.num_channels, self.num_channels)), np.zeros(self.num_channels)
        frame, levels, rest = self.level_frame, [], np.zeros((self.num_channels, 0), np.float32)
        for block in self.blocks("each"):
            rest = np.concatenate([rest, block], -1)
            length = rest.shape[-1] // frame * frame
            frames = rest[:, :length].reshape(len(rest), -1, frame)
            levels.append(np.square(frames - frames.mean(-1, keepdims=True)).mean((0, -1)))
            rest = rest[:, length:].copy()
            exact = block.astype(np.float64)
            products += exact @ exact.T
            sums += exact.sum(1)
        self.frame_levels = np.concatenate(levels)
        means = sums / self.num_samples
        deviations = np.sqrt(np.maximum(products.diagonal() / self.num_samples - np.square(means), 0))
        offsets = np.where(np.abs(means) > _MIN_OFFSET * deviations, means, 0.0)
        crossed = np.outer(offsets, sums)
        rounding = _ROUNDING * np.sqrt(np.outer(products.diagonal(), products.diagonal()))
        products += self.num_samples * np.outer(offsets, offsets) - crossed - crossed.T
        products[np.abs(products) <= rounding] = 0.0  # of a constant, which is silence
        self._offsets = offsets.astype(np.float32)[:, None]
        power = float(products.diagonal().mean())
        with warnings.catch_warnings():
            if channels == "each":  # then they are mixed only to find who speaks when
                warnings.simplefilter("ignore")
            self._weights = channel_weights(products, self.num_samples, self.name)
        if channels == "mix":
            weights = self._weights.astype(np.float64)
            power = float(weights @ products @ weights)
        rms = math.sqrt(max(0.0, power) / self.num_samples)
        exponent = round(math.log2(_TARGET_RMS / rms)) if rms > 0 else 0
        return 2.0 ** max(-_MAX_EXPONENT, min(_MAX_EXPONENT, exponent))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Close open files."""


class FileRecording(Recording):
    """A sound file, never wholly in memory.

    Raises:
        AudioError: If the file cannot be used.
    """

    def __init__(self, path: Path | str) -> None:
        self._reader = AudioReader(path)
        info = self._reader.info
        self.sample_rate, self.num_channels = info.sample_rate, info.num_channels
        self.num_samples, self.name = info.num_samples, str(path)

    def _read(self, block_samples: int) -> Iterator[Samples]:
        return self._reader.blocks(block_samples)

    def close(self) -> None:
        self._reader.close()


class ArrayRecording(Recording):
    """Samples in memory.

    Args:
        samples: ``[channels, T]``.
        sample_rate: In Hz.
    """

    def __init__(self, samples: Samples, sample_rate: int) -> None:
        self._samples = samples
        self.sample_rate, self.name = sample_rate, "audio"
        self.num_channels, self.num_samples = samples.shape

    def _read(self, block_samples: int) -> Iterator[Samples]:
        for start in range(0, self.num_samples, block_samples):
            yield self._samples[:, start : start + block_samples]

    def close(self) -> None:
        pass


@contextlib.contextmanager
def open_recording(audio: Audio, sample_rate: float | None = None) -> Iterator[Recording]:
    """A recording from samples ``[T]`` or ``[channels, T]`` with their rate in Hz, or from a sound file.

    Raises:
        ValueError: If the samples have another shape or are not finite, or the rate is missing.
        AudioError: If the file cannot be used.
    """
    if not isinstance(audio, str | Path | BinaryIO | io.IOBase):
        yield ArrayRecording(_checked(audio), _checked_rate(sample_rate))
        return
    if sample_rate is not None:
        raise ValueError("sample_rate: a file knows its own; leave it out.")
    if isinstance(audio, str | Path):
        with FileRecording(audio) as recording:
            yield recording
        return
    with tempfile.NamedTemporaryFile() as file:  # libsndfile and ffmpeg seek
        save_stream(audio, Path(file.name))
        with FileRecording(file.name) as recording:
            yield recording


def _checked(audio: Tensor | NDArray[np.floating]) -> Samples:
    shape, of_floats = list(audio.shape), "float" in str(audio.dtype)
    if len(shape) not in (1, 2) or 0 in shape:
        raise ValueError(f"audio: expected [T] or [channels, T] with T > 0, got {shape}.")
    if len(shape) == 2 and shape[0] > min(MAX_CHANNELS, shape[1]):
        raise ValueError(
            f"audio: expected [channels, T] with at most {MAX_CHANNELS} channels, got {shape}; "
            "give audio.T if it is [T, channels]."
        )
    if not of_floats:
        raise ValueError(f"audio: expected floats with full scale at 1, got {audio.dtype}.")
    samples = as_samples(audio)
    if not np.isfinite(samples).all():
        raise ValueError("audio: holds NaN or infinity.")
    return samples.reshape(-1, samples.shape[-1])


def _checked_rate(sample_rate: float | None) -> int:
    if isinstance(sample_rate, bool) or sample_rate is None or sample_rate not in RATES:
        raise ValueError(
            f"sample_rate: expected the rate in Hz, {RATES[0]} to {RATES[-1]}, got {sample_rate}."
        )
    return int(sample_rate)
