"""Composing tracks at the recording's own rate: what passes through, and the estimates of overlaps faded in.

Shapes: S tracks, C outputs, K channels, T samples.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from polsess.audio import Samples, resample
from polsess.diarization import SpeakerTimeline
from polsess.inference.recordings import Channels, Recording
from polsess.inference.rendering import Rendering
from polsess.inference.stitching import Spool


@dataclass(frozen=True)
class PassedStretch:
    """Sound that goes onto one track as it is."""

    start: float
    """In seconds; 0 or less reaches from the first sample on."""
    end: float
    """In seconds; the recording's length or more reaches to the last sample."""
    track: int


@dataclass(frozen=True)
class SeparatedStretch:
    """Estimates that go onto tracks, at the network's rate, put aside in a spool."""

    start: float
    """In seconds."""
    end: float
    """In seconds."""
    tracks: tuple[tuple[int, ...], ...]
    """The track of each output, per channel: K tuples of C."""
    first_sample: int
    """The sample of the recording, at the network's rate, with which the estimates begin."""
    place: int
    """The sample of the spool with which they begin."""
    num_samples: int


class ComposedTracks(Rendering):
    """Tracks made of stretches that are cross-faded where they meet; elsewhere they are silent.

    Args:
        recording: The sound, after its ``working_gain``.
        channels: Which of its channels, K.
        num_tracks: S.
        passed: By start.
        separated: By start.
        spool: Of the estimates, C * K rows.
        rate: Of the estimates, in Hz.
        gain: Factor of the estimates.
        fade_seconds: Length of the fades.
        found: Who speaks when.
    """

    def __init__(
        self,
        recording: Recording,
        channels: Channels,
        num_tracks: int,
        passed: Sequence[PassedStretch],
        separated: Sequence[SeparatedStretch],
        spool: Spool,
        *,
        rate: int,
        gain: float,
        fade_seconds: float,
        found: SpeakerTimeline,
    ) -> None:
        self._recording, self._channels, self.num_tracks = recording, channels, num_tracks
        self._passed, self._separated, self._spool = passed, separated, spool
        self._rate, self._gain, self._found = rate, gain, found
        self._fade = max(1, round(fade_seconds * recording.sample_rate / 2))  # to either side of an edge

    def timeline(self) -> SpeakerTimeline:
        """Who speaks when."""
        return self._found

    def blocks(self) -> Iterator[Samples]:
        """As the base class says; what lies within a passed stretch is the recording's own sound."""
        begin = 0
        waiting = list(self._separated)
        ready: list[tuple[SeparatedStretch, int, Samples]] = []
        for block in self._recording.blocks(self._channels):
            end = begin + block.shape[-1]
            tracks = np.zeros((self.num_tracks, *block.shape), np.float32)
            for passing in self._passed:
                if meeting := self._meeting(passing, begin, end):
                    part, envelope = meeting
                    tracks[passing.track, :, part] += envelope * block[:, part]
            while waiting and self._edges(waiting[0])[0] - self._fade < end:
                ready.append((waiting[0], *self._estimates(waiting.pop(0))))
            ready = [each for each in ready if self._edges(each[0])[1] + self._fade > begin]
            for each, first, estimates in ready:
                if meeting := self._meeting(each, begin, end):
                    part, envelope = meeting
                    inner = slice(part.start + begin - first, part.stop + begin - first)
                    for channel, of_outputs in enumerate(each.tracks):
                        for output, track in enumerate(of_outputs):
                            tracks[track, channel, part] += envelope * estimates[output, channel, inner]
            yield tracks
            begin = end

    def _edges(self, stretch: PassedStretch | SeparatedStretch) -> tuple[int, int]:
        """First and behind-the-last sample at the recording's rate."""
        rate = self._recording.sample_rate
        return round(stretch.start * rate), round(stretch.end * rate)

    def _meeting(
        self, stretch: PassedStretch | SeparatedStretch, begin: int, end: int
    ) -> tuple[slice, Samples] | None:
        """The part of a block in which a stretch is heard, and how loud it is there, 0 to 1."""
        first, last = self._edges(stretch)
        opens, closes = first > 0, last < self._recording.num_samples
        low = max(begin, first - self._fade if opens else 0)
        high = min(end, last + self._fade if closes else self._recording.num_samples)
        if low >= high:
            return None
        times = np.arange(low, high) + 0.5
        envelope = np.ones(high - low, np.float32)
        if opens:
            envelope *= self._rise(times - first)
        if closes:
            envelope *= self._rise(last - times)
        return slice(low - begin, high - begin), envelope

    def _rise(self, distance: NDArray[np.floating]) -> Samples:
        position = np.clip(0.5 + 0.5 * distance / self._fade, 0.0, 1.0)
        return np.square(np.sin(0.5 * math.pi * position)).astype(np.float32)

    def _estimates(self, stretch: SeparatedStretch) -> tuple[int, Samples]:
        """First sample and samples ``[C, K, n]`` of the estimates at the recording's rate."""
        rate = self._recording.sample_rate
        common = math.gcd(self._rate, rate)
        step, native_step = self._rate // common, rate // common
        steps = stretch.first_sample // step  # a sample of both rates
        self._spool.seek(stretch.place)
        samples = self._spool.read(stretch.num_samples) * np.float32(self._gain)
        padded = np.pad(samples, ((0, 0), (stretch.first_sample - steps * step, 0)))
        length = self._edges(stretch)[1] + self._fade - steps * native_step
        native = resample(padded, self._rate, rate)
        native = np.pad(native, ((0, 0), (0, max(0, length - native.shape[-1]))))
        return steps * native_step, native.reshape(-1, len(stretch.tracks), native.shape[-1])
