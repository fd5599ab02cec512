"""Chunks of a long sequence, and the sequence back from its chunks, for dual-path models.

Luo, Chen, Yoshioka (2020), "Dual-path RNN", https://arxiv.org/abs/1910.06379. A long sequence is cut into
short chunks, so that one network looks within them and another across them.

Shapes: B batch, L frames, N features, K chunk length, S chunks. Features are last: ``[B, S, K, N]`` reads as
sequences within chunks by a view, and as sequences across chunks by one transposition.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from polsess.models.layers.blocks import frames_per_block, runs_in_blocks
from polsess.models.layers.stream import Stream


@dataclass(frozen=True)
class Chunking:
    """Positions of the chunks of one sequence.

    The sequence follows ``padding`` zeros. Chunks come in rounds, one chunk per offset: with R offsets,
    chunk ``i * R + r`` begins at ``i * period + offsets[r]``.
    """

    num_frames: int
    """L."""
    chunk_size: int
    """K."""
    padding: int
    """Zeros before the first frame."""
    period: int
    """Frames between the beginnings of neighbouring rounds."""
    offsets: tuple[int, ...]
    """Beginnings of the chunks of a round, counted from its beginning."""
    num_rounds: int

    @classmethod
    def half_overlapping(cls, num_frames: int, chunk_size: int) -> Chunking:
        """Chunks that begin every K // 2 frames (for an odd K: alternately K // 2 and K - K // 2).

        Every frame lies in exactly two chunks. There is always at least one zero behind the last frame, so a
        length that fits exactly gets a further round. Source: SpeechBrain's dual-path model.

        Raises:
            ValueError: If a chunk has fewer than two frames.
        """
        _require(chunk_size >= 2, f"chunk_size must be at least 2, got {chunk_size}.")
        half = chunk_size // 2
        num_rounds = (half + num_frames) // chunk_size + 1
        if chunk_size % 2 == 0:
            return cls(num_frames, chunk_size, half, half, (0,), 2 * num_rounds)
        return cls(num_frames, chunk_size, half, chunk_size, (0, half), num_rounds)

    @classmethod
    def strided(cls, num_frames: int, chunk_size: int, hop_size: int) -> Chunking:
        """Chunks that begin every ``hop_size`` frames, the first a whole chunk before the sequence.

        Frames lie in ``chunk_size / hop_size`` chunks, in unequal numbers where that is no integer.
        Source: Asteroid's dual-path processing.

        Raises:
            ValueError: If the hop is not between 1 and the chunk size.
        """
        _require(
            1 <= hop_size <= chunk_size,
            f"hop_size must be from 1 to chunk_size {chunk_size}, got {hop_size}.",
        )
        num_chunks = (num_frames + chunk_size) // hop_size + 1
        return cls(num_frames, chunk_size, chunk_size, hop_size, (0,), num_chunks)

    @classmethod
    def disjoint(cls, num_frames: int, chunk_size: int) -> Chunking:
        """Neighbouring chunks without overlap; the last has at least one zero behind the last frame.

        A length that fits exactly gets a further chunk of zeros. Source: SpeechBrain's RE-SepFormer and SkiM.
        """
        return cls(num_frames, chunk_size, 0, chunk_size, (0,), num_frames // chunk_size + 1)

    @property
    def num_chunks(self) -> int:
        """S."""
        return self.num_rounds * len(self.offsets)

    @property
    def hop_size(self) -> float:
        """Frames between the beginnings of chunks, on average."""
        return self.period / len(self.offsets)

    def segment(self, frames: Tensor) -> Tensor:
        """Cut a sequence into chunks.

        Args:
            frames: ``[B, L, N]``.

        Returns:
            ``[B, S, K, N]``, contiguous.
        """
        padded = F.pad(frames, (0, 0, self.padding, self._end - self.padding - self.num_frames))
        rounds = [self._chunks_from(padded, offset) for offset in self.offsets]  # each [B, S / R, K, N]
        if len(rounds) == 1:
            return rounds[0].contiguous()
        return torch.stack(rounds, dim=2).flatten(1, 2)

    def count_overlaps(self, chunks: Tensor) -> Tensor:
        """Number of chunks in which each frame lies, ``[1, L, 1]``, for chunks ``[B, S, K, N]``."""
        return self.overlap_add(chunks.new_ones(1, *chunks.shape[1:3], 1))

    def overlap_add(self, chunks: Tensor) -> Tensor:
        """Sum the chunks where they overlap; nothing is divided by the number of summands.

        Args:
            chunks: ``[B, S, K, N]``.

        Returns:
            ``[B, L, N]``.
        """
        rounds = chunks.unflatten(1, (self.num_rounds, -1))  # [B, S / R, R, K, N]
        slots = -(-self.chunk_size // self.period)  # periods that one chunk touches
        length = self.offsets[-1] + (self.num_rounds + slots - 1) * self.period
        placed = []
        for index, offset in enumerate(self.offsets):
            for slot in range(slots):
                piece = rounds[:, :, index, slot * self.period : (slot + 1) * self.period]
                piece = F.pad(piece, (0, 0, 0, self.period - piece.shape[2])).flatten(1, 2)
                begin = offset + slot * self.period
                end = begin + self.num_rounds * self.period
                placed.append(F.pad(piece, (0, 0, begin, length - end)))
        total = functools.reduce(torch.add, placed)
        return total[:, self.padding : self.padding + self.num_frames]

    @property
    def context(self) -> int:
        """Frames that a round of chunks reaches back before its own period: by as many a stream is late."""
        return self.offsets[-1] + self.chunk_size - self.period

    def streamed(self, stream: Stream | None, layer: nn.Module) -> Chunking:
        """The chunks of the next frames of a stream, under the name of a layer; without one, of the whole."""
        return self if stream is None else StreamedChunking.of_piece(self, stream, layer)

    @property
    def _end(self) -> int:
        """Frames from the beginning of the first chunk to the end of the last."""
        return (self.num_rounds - 1) * self.period + self.offsets[-1] + self.chunk_size

    def _chunks_from(self, padded: Tensor, offset: int) -> Tensor:
        """A view of one chunk of every round, ``[B, S / R, K, N]``."""
        end = offset + (self.num_rounds - 1) * self.period + self.chunk_size
        return padded[:, offset:end].unfold(1, self.chunk_size, self.period).mT


@dataclass(frozen=True)
class StreamedChunking(Chunking):
    """Chunks of the next frames of a stream, which begin with what is left of the frames before.

    The frames that come out are late by ``context`` frames.
    """

    stream: Stream
    layer: nn.Module
    num_new: int
    """Frames that came, a whole number of periods."""

    @classmethod
    def of_piece(cls, chunking: Chunking, stream: Stream, layer: nn.Module) -> StreamedChunking:
        """The chunks that ``chunking.num_frames`` new frames complete."""
        rounds, rest = chunking.num_frames // chunking.period, chunking.num_frames % chunking.period
        _require(rest == 0, f"a stream takes multiples of {chunking.period} frames.")
        total = chunking.context + chunking.num_frames
        places = (chunking.period, chunking.offsets, rounds)
        return cls(total, chunking.chunk_size, 0, *places, stream, layer, chunking.num_frames)

    def segment(self, frames: Tensor) -> Tensor:
        """Cut the next frames ``[B, L, N]`` into chunks, ``[B, S, K, N]``."""
        frames = self.stream.real(frames, 1)
        return super().segment(self.stream.join(self.layer, frames, self.context, 1, "frames"))

    def overlap_add(self, chunks: Tensor) -> Tensor:
        """Sum the chunks ``[B, S, K, N]`` where they overlap; gives the frames that are complete."""
        return self.stream.overlap(self.layer, super().overlap_add(chunks), self.context, 1, "sums")

    def count_overlaps(self, chunks: Tensor) -> Tensor:
        ones = chunks.new_ones(1, *chunks.shape[1:3], 1)
        return self.stream.overlap(self.layer, super().overlap_add(ones), self.context, 1, "overlaps")


def map_within_chunks(
    function: Callable[[Tensor], Tensor], chunks: Tensor, block_frames: int | None = None
) -> Tensor:
    """Apply a network to every chunk as a sequence of its own.

    In inference a few chunks at a time run through the whole network, so that what it computes in between
    stays small and in the processor's cache.

    Args:
        function: Maps ``[M, K, N]`` to the same shape for any M, each sequence alone.
        chunks: ``[B, S, K, N]``.
        block_frames: Frames that an inference step takes at once; None for ``frames_per_block``.

    Returns:
        ``[B, S, K, N]``.
    """
    if not runs_in_blocks():
        return function(chunks.flatten(0, 1)).unflatten(0, chunks.shape[:2])
    result = torch.empty_like(chunks, memory_format=torch.contiguous_format)
    _map_blocks(function, chunks.flatten(0, 1), result.flatten(0, 1), block_frames)
    return result


def map_across_chunks(
    function: Callable[[Tensor], Tensor], chunks: Tensor, block_frames: int | None = None
) -> Tensor:
    """Apply a network along the chunks: to each place within them as a sequence of its own.

    Args:
        function: Maps ``[M, S, N]`` to the same shape for any M, each sequence alone.
        chunks: ``[B, S, K, N]``.
        block_frames: Frames that an inference step takes at once; None for ``frames_per_block``.

    Returns:
        ``[B, S, K, N]``.
    """
    if not runs_in_blocks():
        columns = chunks.transpose(1, 2)  # [B, K, S, N]
        return function(columns.flatten(0, 1)).unflatten(0, columns.shape[:2]).transpose(1, 2).contiguous()
    result = torch.empty_like(chunks, memory_format=torch.contiguous_format)
    for item, target in zip(chunks, result, strict=True):
        _map_blocks(function, item.transpose(0, 1), target.transpose(0, 1), block_frames)
    return result


def _map_blocks(
    function: Callable[[Tensor], Tensor], sequences: Tensor, target: Tensor, block_frames: int | None
) -> None:
    """Write ``function(sequences)`` into ``target``, both ``[M, L, N]``, a few sequences at a time."""
    block = max(1, round((block_frames or frames_per_block(sequences.device)) / sequences.shape[1]))
    for source, part in zip(sequences.split(block), target.split(block), strict=True):
        part.copy_(function(source.contiguous()))


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)
