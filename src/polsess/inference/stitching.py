"""Joining the estimates of overlapping segments, every speaker kept on one output.

A network returns the speakers of each segment in an order of its own. Neighbouring segments are matched on
their overlap and cross-faded. Where the overlap does not decide, because nobody speaks there, a new stretch
begins; at the end of the recording the voices of all stretches are compared and each stretch is put in order.
The order thus survives pauses of any length, which no rule on neighbours can achieve. The first speaker is
the one who begins first.

Shapes: C sources, K channels, O samples of overlap.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from polsess.audio import Samples
from polsess.inference.levels import LevelStatistics
from polsess.inference.profiles import (
    CepstralFrames,
    Order,
    SpeakerProfile,
    in_order_of_onset,
    order_stretches,
    two_best_orders,
)
from polsess.system_errors import errors_named

_MIN_SPEECH_SHARE = 0.03
"""An overlap with a smaller share of speech does not decide the order."""
_MIN_MARGIN = 0.2
"""Lead of the best order over the next that decides, in shares of the overlap's energy."""


class Spool:
    """Float32 samples of several rows, appended at the end and read from the start.

    Args:
        num_rows: R.
        memory_bytes: Above this the samples move to disk; 0 keeps them in memory whatever their number.
        folder: Folder of the file, which has no name there and vanishes with the process.
    """

    def __init__(self, num_rows: int, memory_bytes: int = 0, folder: Path | None = None) -> None:
        self._rows, self._folder = num_rows, folder or Path(tempfile.gettempdir())
        self.num_samples = 0
        """Appended so far."""
        self._file = tempfile.SpooledTemporaryFile(max_size=memory_bytes, dir=str(folder) if folder else None)  # noqa: SIM115

    def append(self, block: Samples) -> None:
        """Add ``[R, n]`` at the end."""
        with errors_named(self._folder):  # e.g. of a full disk
            self._file.write(block.T.astype(np.float32, copy=False).tobytes())
        self.num_samples += block.shape[-1]

    def seek(self, sample: int) -> None:
        """Go to a sample, which is read next; before the next block is appended, to ``num_samples``."""
        self._file.seek(sample * self._rows * 4)

    def read(self, num_samples: int) -> Samples:
        """The next samples, ``[R, num_samples]``."""
        content = bytearray(self._file.read(num_samples * self._rows * 4))
        samples = np.frombuffer(content, dtype=np.float32).reshape(-1, self._rows)
        if len(samples) != num_samples:
            raise OSError(f"{num_samples - len(samples)} samples that were put aside are gone.")
        return samples.T

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


class Spools:
    """Opens spools that live as long as a stack.

    Args:
        stack: Closes them.
        memory_bytes: As in ``Spool``.
        folder: As in ``Spool``.
    """

    def __init__(
        self, stack: contextlib.ExitStack, memory_bytes: int = 0, folder: Path | None = None
    ) -> None:
        self._stack, self._options = stack, (memory_bytes, folder)

    def open(self, num_rows: int) -> Spool:
        """A new one."""
        return self._stack.enter_context(Spool(num_rows, *self._options))


@dataclass
class Stretch:
    """Segments whose order is certain among themselves."""

    levels: LevelStatistics
    voices: list[list[SpeakerProfile]]
    """The profile of each output of each channel, K lists of C."""
    num_samples: int = field(default=0)
    """Samples stored for it, with the fades to its neighbours."""
    fade: int = 0
    """Samples at its end that the next stretch shares."""


class Stitcher:
    """Joins the estimates of successive segments as far as the order is certain, and stores them.

    Args:
        spool: Receives the samples, C * K rows.
        num_sources: C.
        num_channels: K; each channel is separated by itself and has an order of its own.
        overlap: Samples that neighbours share.
        sample_rate: In Hz.
    """

    def __init__(
        self, spool: Spool, num_sources: int, num_channels: int, overlap: int, sample_rate: int
    ) -> None:
        self._spool, self._shape = spool, (num_sources, num_channels)
        self._overlap, self._sample_rate = overlap, sample_rate
        position = (np.arange(overlap) + 0.5) / max(overlap, 1)
        self._fade: Samples = np.square(np.sin(0.5 * math.pi * position)).astype(np.float32)
        self._tail: Samples | None = None
        self._loud_level = self._threshold = 0.0
        self._stretches: list[Stretch] = []

    def push(self, estimates: Samples, mixture: Samples, last: bool = False, silent: bool = False) -> None:
        """Add a segment.

        Args:
            estimates: ``[C, K, n]``, beginning with the last O samples of the segment before.
            mixture: ``[K, n]``.
            last: Whether the next segment does not overlap this one, or there is none.
            silent: Whether nobody talks; then it says nothing about the voices.
        """
        head = estimates[..., : self._overlap]
        orders = self._orders(head)
        if orders is None:
            if self._tail is not None:
                self._put(self._tail * (1 - self._fade))
                self._stretches[-1].fade = self._overlap
            self._stretches.append(self._new_stretch())
            faded = head if self._tail is None else head * self._fade
        else:
            assert self._tail is not None
            estimates = _in_order(estimates, orders)
            faded = self._tail + self._fade * (estimates[..., : self._overlap] - self._tail)
            estimates = np.concatenate([faded, estimates[..., self._overlap :]], -1)
        if not silent:
            self._profile(estimates)
        end = estimates.shape[-1] - (0 if last else self._overlap)
        self._stretches[-1].levels.add(estimates[..., :end], mixture[:, :end])
        self._put(faded[..., :end])
        self._put(estimates[..., self._overlap : end])
        self._tail = None if last else estimates[..., end:]

    def finish(self) -> JoinedEstimates:
        """Decide the order of all stretches after the last segment."""
        num_channels = self._shape[1]
        voices = [[stretch.voices[k] for stretch in self._stretches] for k in range(num_channels)]
        by_channel = [order_stretches(each) for each in voices]
        orders = list(zip(*by_channel, strict=True))  # stretch, channel
        levels = self._new_stretch().levels
        for stretch, order in zip(self._stretches, orders, strict=True):
            levels += stretch.levels.in_order(order)
        match = levels.matching_channels()
        levels = levels.in_order(match)
        onsets = levels.onsets()
        first = self._stretch_of_frame(min(onsets))
        places = [orders[first][0][source] for source in match[0]]
        speakers = in_order_of_onset(onsets, places)
        orders = [
            tuple(tuple(order[m[i]] for i in speakers) for order, m in zip(each, match, strict=True))
            for each in orders
        ]
        lengths = [(stretch.num_samples, stretch.fade) for stretch in self._stretches]
        gains = levels.gains()[list(speakers)]
        swaps = sum(order != orders[0] for order in orders)
        return JoinedEstimates(self._spool, self._shape, lengths, orders, gains, swaps)

    def _stretch_of_frame(self, frame: int) -> int:
        ends = itertools.accumulate(stretch.levels.num_frames for stretch in self._stretches)
        return next((index for index, end in enumerate(ends) if frame < end), 0)

    def _new_stretch(self) -> Stretch:
        num_sources, num_channels = self._shape
        voices = [[SpeakerProfile() for _ in range(num_sources)] for _ in range(num_channels)]
        return Stretch(LevelStatistics(num_sources, num_channels, self._sample_rate), voices)

    def _put(self, samples: Samples) -> None:
        self._spool.append(samples.reshape(math.prod(self._shape), samples.shape[-1]))
        self._stretches[-1].num_samples += samples.shape[-1]

    def _profile(self, estimates: Samples) -> None:
        """Add to the profiles of the voices and to the level of speech."""
        if len(estimates) == 1:
            return
        for channel, voices in zip(estimates.swapaxes(0, 1), self._stretches[-1].voices, strict=True):
            frames = CepstralFrames(channel, self._sample_rate)
            self._loud_level = max(self._loud_level, frames.loud_level())
            self._threshold = frames.speech_threshold(self._loud_level)
            speech = frames.speech(self._threshold)
            for voice, cepstra, spoken in zip(voices, frames.cepstra, speech, strict=True):
                voice.add(cepstra[spoken])

    def _orders(self, head: Samples) -> list[Order] | None:
        """Per channel the order that continues the segment before, or None if that is not certain."""
        if self._tail is None:
            return None
        if len(head) == 1:
            return [(0,)] * head.shape[1]
        pairs = zip(self._tail.swapaxes(0, 1), head.swapaxes(0, 1), strict=True)
        orders = [self._order(*each) for each in pairs]
        return None if None in orders else [order for order in orders if order is not None]

    def _order(self, tail: Samples, head: Samples) -> Order | None:
        loudness = np.float32(0.5) * (np.square(tail).sum(0) + np.square(head).sum(0))
        if not self._somebody_speaks(loudness):
            return None
        before, now = (np.flatnonzero(each.any(-1)).tolist() for each in (tail, head))
        scores = (tail[before] @ head[now].T).astype(np.float64) / float(loudness.sum())
        fewer_now = len(now) < len(before)
        best, *others = two_best_orders(scores.T if fewer_now else scores)
        if best[0] - (others[0][0] if others else 0.0) < _MIN_MARGIN:
            return None
        pairs = [(j, i) if fewer_now else (i, j) for i, j in enumerate(best[1])]
        place = {before[i]: now[j] for i, j in pairs}
        rest = iter(sorted(set(range(len(head))) - set(place.values())))  # silent here or there
        return tuple(place[i] if i in place else next(rest) for i in range(len(head)))

    def _somebody_speaks(self, loudness: Samples) -> bool:
        frame = max(1, self._sample_rate // 50)
        frames = loudness[: len(loudness) // frame * frame].reshape(-1, frame).mean(1)
        return len(frames) > 0 and float((frames > self._threshold).mean()) >= _MIN_SPEECH_SHARE


@dataclass(frozen=True)
class JoinedEstimates:
    """The estimates of a recording, with the orders and gains that make them its sources."""

    spool: Spool
    shape: tuple[int, int]
    """C and K."""
    lengths: list[tuple[int, int]]
    """Samples of each stretch, and how many at its end the next one shares."""
    orders: list[tuple[Order, ...]]
    """Of each stretch and channel: which output belongs to each speaker."""
    gains: NDArray[np.float64]
    """Of each speaker and channel, ``[C, K]``."""
    swaps: int
    """Stretches that the network gave in another order than the first one."""

    def blocks(self, block_samples: int) -> Iterator[Samples]:
        """The speakers from the start, ``[C, K, n]`` per block, at the mixture's level."""
        self.spool.seek(0)
        carry = None  # the fading end of the stretch before
        for (length, fading), orders in zip(self.lengths, self.orders, strict=True):
            if carry is not None:
                yield self._read(carry.shape[-1], orders) + carry
                length -= carry.shape[-1]
            for start in range(0, length - fading, block_samples):
                yield self._read(min(block_samples, length - fading - start), orders)
            carry = self._read(fading, orders) if fading else None

    def _read(self, num_samples: int, orders: Sequence[Order]) -> Samples:
        samples = self.spool.read(num_samples).reshape(*self.shape, -1)
        return _in_order(samples, orders) * self.gains.astype(np.float32)[..., None]


def _in_order(samples: Samples, orders: Sequence[Order]) -> Samples:
    """Sort the sources ``[C, K, n]`` of every channel."""
    return np.stack([samples[list(order), k] for k, order in enumerate(orders)], 1)
