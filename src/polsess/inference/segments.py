"""Cutting a recording into overlapping segments while it is read; long silences are segments of their own.

Shapes: T samples, O samples of overlap, L frames.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from polsess.audio import Samples

_SILENT_DB = -40.0
"""Frames this far below the loud ones are silent."""
_LONG_SILENCE_SECONDS = 3.0
"""Shorter silences stay within their segment."""
_MARGIN_SECONDS = 0.5
"""Of a silence, this much stays with the sound on either side."""
Edges = tuple[int, int]
"""First and behind-the-last sample of a stretch."""


@dataclass(frozen=True)
class Segment:
    """A piece of the recording, in samples."""

    start: int
    """The first sample that the network sees."""
    keep: int
    """The first sample that is used."""
    stop: int
    """One past the last sample."""
    last: bool = False
    """Whether the next segment does not overlap this one, or there is none."""
    silent: bool = False
    """Whether nobody talks."""


@dataclass(frozen=True)
class SegmentPlan:
    """Positions of the segments of a recording.

    All segments are equally long; the last one begins earlier and drops the samples beyond the overlap.

    Args:
        num_samples: Length of the recording, T.
        segment: Length of a segment.
        overlap: Samples that neighbours share, O, at most half a segment.

    Raises:
        ValueError: If a length is out of range.
    """

    num_samples: int
    segment: int
    overlap: int

    def __post_init__(self) -> None:
        if self.num_samples < 1 or self.segment < 1 or not 0 <= self.overlap <= self.segment // 2:
            raise ValueError(
                f"segments: expected samples, and an overlap of half a segment or less; got {self}."
            )

    @classmethod
    def balanced(cls, num_samples: int, longest: int, overlap: int) -> SegmentPlan:
        """As few segments as possible, none longer than ``longest``, and those as short as they may be.

        The network then processes as few samples as possible: ``T + (segments - 1) * O``.
        """
        count = len(cls(num_samples, longest, overlap))
        shortest = -(-(num_samples + (count - 1) * overlap) // count)
        return cls(num_samples, max(2 * overlap, shortest), overlap)

    def __len__(self) -> int:
        hop = self.segment - self.overlap
        return max(1, math.ceil((self.num_samples - self.overlap) / hop))

    def __iter__(self) -> Iterator[Segment]:
        hop = self.segment - self.overlap
        for index in range(len(self)):
            keep = index * hop
            stop = min(keep + self.segment, self.num_samples)
            yield Segment(max(0, stop - self.segment), keep, stop, stop == self.num_samples)


def find_silences(levels: NDArray[np.float32], frame_seconds: float) -> list[tuple[float, float]]:
    """Long silences as start and end in seconds, without the margins that stay with the sound.

    Args:
        levels: Mean squares of the frames ``[L]``.
        frame_seconds: Length of a frame.
    """
    if not len(levels):
        return []
    loud = float(np.sort(levels)[int(0.95 * (len(levels) - 1))])
    quiet = levels <= loud * 10 ** (_SILENT_DB / 10)
    edges = np.flatnonzero(np.diff(quiet.astype(np.int8), prepend=0, append=0))
    silences = []
    for first, last in edges.reshape(-1, 2).tolist():
        if (last - first) * frame_seconds >= _LONG_SILENCE_SECONDS:
            begin = first * frame_seconds + (_MARGIN_SECONDS if first else 0.0)
            end = last * frame_seconds - (_MARGIN_SECONDS if last < len(levels) else 0.0)
            silences.append((begin, end))
    return silences if loud > 0 else []


def plan_segments(
    num_samples: int, longest: int, overlap: int, silences: Sequence[Edges] = ()
) -> list[Segment]:
    """The segments of a recording; none reaches from a silence into sound.

    Args:
        num_samples: T.
        longest: Length of the longest segment.
        overlap: Samples that neighbours share, O.
        silences: Stretches in order, which do not touch.
    """
    edges = [0, *(edge for silence in silences for edge in silence), num_samples]
    segments = []
    for index, (first, last) in enumerate(itertools.pairwise(edges)):
        if first < last:
            segments += [
                Segment(first + each.start, first + each.keep, first + each.stop, each.last, index % 2 == 1)
                for each in SegmentPlan.balanced(last - first, longest, overlap)
            ]
    return segments


def cut(plan: Iterable[Segment], blocks: Iterable[Samples]) -> Iterator[tuple[Segment, Samples]]:
    """The segments of a recording that arrives in blocks of any length.

    Args:
        plan: The segments in order.
        blocks: ``[..., n]`` arrays, T samples in all.
    """
    buffer, offset, stream = np.zeros(0, np.float32), 0, iter(blocks)
    for segment in plan:
        while offset + buffer.shape[-1] < segment.stop:
            block = next(stream)
            buffer = np.concatenate([buffer, block], -1) if buffer.size else block
        buffer, offset = buffer[..., segment.start - offset :], segment.start
        yield segment, buffer[..., : segment.stop - segment.start]
