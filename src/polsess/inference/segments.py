"""Cutting a long recording into overlapping segments while it is read.

Shapes: T samples, O samples of overlap.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Segment:
    """A piece of the recording, in samples."""

    start: int
    """The first sample that the network sees."""
    keep: int
    """The first sample that is used."""
    stop: int
    """One past the last sample."""


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
            yield Segment(max(0, stop - self.segment), keep, stop)


def cut(plan: SegmentPlan, blocks: Iterable[Tensor]) -> Iterator[tuple[Segment, Tensor]]:
    """The segments of a recording that arrives in blocks of any length.

    Args:
        plan: Positions of the segments.
        blocks: ``[..., n]`` tensors, T samples in all.
    """
    buffer, offset, stream = torch.empty(0), 0, iter(blocks)
    for segment in plan:
        while offset + buffer.shape[-1] < segment.stop:
            block = next(stream)
            buffer = torch.cat([buffer, block], -1) if buffer.numel() else block
        buffer, offset = buffer[..., segment.start - offset :], segment.start
        yield segment, buffer[..., : segment.stop - segment.start]
