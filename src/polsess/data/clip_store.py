"""The samples of many clips: all of them in memory where they fit, else read whenever they are asked for.

Shapes: T samples.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from polsess.audio import AudioError, Samples, read_audio, read_audio_info, resample, to_mono
from polsess.data.sources import SourceFile

_READERS = 8
_HELD_BYTES = 4 << 30
"""Clips of a split that take no more than this are all held."""
_KEPT_BYTES = 256 << 20
"""Of more clips, each process keeps this much of those that were asked for last."""
_SAMPLE_BYTES = 4


class ClipStore:
    """The samples of clips at one rate; the same ones whether they are held or read.

    Args:
        clips: The clips.
        sample_rate: In Hz.
        prepare: Changes the samples ``[T]`` of every clip.

    Attributes:
        clips: The clips that can be used, with lengths and rates of their files.
        refused: A line for every other one.
    """

    def __init__(
        self, clips: Iterable[SourceFile], sample_rate: int, prepare: Callable[[Samples], Samples]
    ) -> None:
        self._rate, self._prepare = sample_rate, prepare
        self._kept: OrderedDict[Path, Samples] = OrderedDict()
        self._num_bytes = 0
        with ThreadPoolExecutor(_READERS) as pool:  # waiting for a disk, not computing
            measured = list(pool.map(_measure, clips, chunksize=64))
        self.clips: Sequence[SourceFile] = [one for one in measured if isinstance(one, SourceFile)]
        self.refused = [one for one in measured if isinstance(one, str)]
        seconds = sum(one.num_samples / one.sample_rate for one in self.clips)
        self.holds_all = seconds * sample_rate * _SAMPLE_BYTES <= _HELD_BYTES
        """Whether all are in memory."""
        if self.holds_all:
            self.clips = [one for one in self.clips if self._hold(one.path)]

    def __getitem__(self, path: Path) -> Samples:
        """The mean of a clip's channels, ``[T]``.

        Raises:
            AudioError: If it is read now and cannot be.
        """
        if path in self._kept:
            self._kept.move_to_end(path)
            return self._kept[path]
        samples = self._read(path)
        self._kept[path] = samples
        self._num_bytes += samples.nbytes
        while self._num_bytes > _KEPT_BYTES:
            _, oldest = self._kept.popitem(last=False)
            self._num_bytes -= oldest.nbytes
        return samples

    def _hold(self, path: Path) -> bool:
        try:
            self._kept[path] = self._read(path)
        except (AudioError, OSError) as error:
            self.refused.append(str(error))
            return False
        return True

    def _read(self, path: Path) -> Samples:
        return self._prepare(read_clip(path, self._rate))


def read_clip(path: Path, sample_rate: int) -> Samples:
    """The mean of a clip's channels at a rate in Hz, ``[T]``.

    Raises:
        AudioError: If it cannot be read.
    """
    audio, rate = read_audio(path)
    samples: Samples = resample(to_mono(audio, path), rate, sample_rate).numpy()
    return samples


def _measure(clip: SourceFile) -> SourceFile | str:
    try:
        info = read_audio_info(clip.path)
    except (AudioError, OSError) as error:
        return str(error)
    return replace(clip, num_samples=info.num_samples, sample_rate=info.sample_rate)
