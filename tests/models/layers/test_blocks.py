"""Networks that look at neighbouring frames, block by block."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from polsess.models.layers.blocks import map_near_frames
from polsess.models.layers.depthwise import DepthwiseConv


@pytest.mark.parametrize("batch", [2, 6])
@pytest.mark.parametrize("length", [1, 3, 40])
@pytest.mark.parametrize("block_frames", [4, 7, 30, 1000])
def test_blocks_give_the_same_as_the_whole(batch: int, length: int, block_frames: int) -> None:
    conv, frames = DepthwiseConv(3, 5, bias=True), torch.randn(batch, length, 3)
    sizes: list[int] = []

    def exchange(part: Tensor) -> Tensor:
        """A pair of items sees itself and two frames to either side."""
        sizes.append(part.shape[0] * part.shape[1])
        pairs = part.unflatten(0, (-1, 2))
        return conv((pairs + pairs.flip(1)).flatten(0, 1))

    expected = exchange(frames)
    with torch.no_grad():
        torch.testing.assert_close(map_near_frames(exchange, frames, 2, 2, block_frames), expected)
    blocks = sizes[1:]
    if batch * length <= block_frames:
        assert blocks == sizes[:1]
    elif length > 3:
        assert len(blocks) > 1
    assert max(blocks) <= max(block_frames, 2) + 2 * 4


def test_gradients_need_the_whole() -> None:
    frames = torch.randn(2, 50, 3, requires_grad=True)
    calls: list[tuple[int, ...]] = []

    def double(part: Tensor) -> Tensor:
        calls.append(part.shape)
        return 2 * part

    map_near_frames(double, frames, block_frames=8).sum().backward()
    assert calls == [frames.shape]
