"""Chunks against the index arithmetic of the two toolkits, written as loops."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from polsess.models.layers.dual_path import Chunking

LENGTHS = [1, 3, 19, 20, 21, 29, 30, 31, 70, 80, 83]


def half_overlapping_starts(length: int, size: int) -> tuple[int, list[int], int]:
    """Zeros in front, beginnings of chunks and total length, from the sizes of the paddings."""
    half = size // 2
    gap = size - (half + length % size) % size
    total = half + length + gap + half
    even = list(range(0, total - half, size))
    return half, [start for begin in even for start in (begin, begin + half)], total


def strided_starts(length: int, size: int, hop: int) -> tuple[int, list[int], int]:
    total = length + 2 * size
    return size, list(range(0, total - size + 1, hop)), total


def cases() -> list[tuple[Chunking, tuple[int, list[int], int]]]:
    found = []
    for length in LENGTHS:
        for size in (2, 5, 20, 21):
            found.append((Chunking.half_overlapping(length, size), half_overlapping_starts(length, size)))
        for size, hop in ((20, 10), (20, 5), (20, 20), (20, 7), (21, 8), (5, 4), (1, 1)):
            found.append((Chunking.strided(length, size, hop), strided_starts(length, size, hop)))
    return found


def test_chunks_and_their_sum_equal_a_loop() -> None:
    for chunking, (padding, starts, total) in cases():
        frames = torch.randn(2, chunking.num_frames, 3)
        padded = F.pad(frames, (0, 0, padding, total - padding - chunking.num_frames))
        expected = torch.stack([padded[:, start : start + chunking.chunk_size] for start in starts], 1)
        chunks = chunking.segment(frames)
        assert torch.equal(chunks, expected), chunking
        assert chunking.num_chunks == chunks.shape[1]
        changed = torch.randn_like(chunks)
        summed = torch.zeros(2, max(total, max(starts) + chunking.chunk_size), 3)
        for index, start in enumerate(starts):
            summed[:, start : start + chunking.chunk_size] += changed[:, index]
        torch.testing.assert_close(
            chunking.overlap_add(changed), summed[:, padding : padding + chunking.num_frames]
        )


def test_strided_chunks_equal_unfold_and_fold() -> None:
    for length, size, hop in ((50, 20, 10), (47, 20, 7), (13, 20, 10)):
        frames = torch.randn(2, length, 3)
        options = {"kernel_size": (size, 1), "padding": (size, 0), "stride": (hop, 1)}
        unfolded = F.unfold(frames.mT.unsqueeze(-1), **options)  # [B, N * K, S]
        chunking = Chunking.strided(length, size, hop)
        chunks = chunking.segment(frames)
        assert torch.equal(chunks, unfolded.unflatten(1, (3, size)).permute(0, 3, 2, 1))
        folded = F.fold(unfolded, (length, 1), **options).squeeze(-1).mT
        torch.testing.assert_close(chunking.overlap_add(chunks), folded)


@pytest.mark.parametrize("length", LENGTHS)
def test_overlap_add_inverts_up_to_the_number_of_chunks_over_a_frame(length: int) -> None:
    frames = torch.randn(2, length, 4)
    for chunking, times in [
        (Chunking.half_overlapping(length, 20), 2),
        (Chunking.half_overlapping(length, 7), 2),
        (Chunking.strided(length, 20, 5), 4),
        (Chunking.disjoint(length, 20), 1),
    ]:
        torch.testing.assert_close(chunking.overlap_add(chunking.segment(frames)), times * frames)


def test_a_length_that_fits_gets_a_further_chunk_of_zeros() -> None:
    chunks = Chunking.disjoint(40, 20).segment(torch.ones(1, 40, 1))
    assert chunks.shape == (1, 3, 20, 1)
    assert not chunks[:, -1].any()
    assert Chunking.half_overlapping(70, 20).num_chunks == 2 * 5  # 10 + 70 + 20 frames and 10 more


def test_gradients_are_the_transposed_maps() -> None:
    """<segment(x), y> = <x, overlap_add(y)>, so that each gradient is the other map."""
    for chunking in (Chunking.half_overlapping(33, 7), Chunking.strided(33, 8, 3), Chunking.disjoint(33, 8)):
        frames = torch.randn(1, 33, 2, dtype=torch.float64, requires_grad=True)
        chunks = chunking.segment(frames)
        probe: Tensor = torch.randn_like(chunks, requires_grad=True)
        (chunks * probe).sum().backward()
        assert frames.grad is not None
        torch.testing.assert_close(frames.grad, chunking.overlap_add(probe))
        other = torch.randn_like(frames)
        probe.grad = None
        (chunking.overlap_add(probe) * other).sum().backward()
        torch.testing.assert_close(probe.grad, chunking.segment(other))


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 2, got 1"):
        Chunking.half_overlapping(10, 1)
    with pytest.raises(ValueError, match="from 1 to chunk_size 8, got 9"):
        Chunking.strided(10, 8, 9)
