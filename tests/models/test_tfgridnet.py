"""TF-GridNet's options against a step-by-step computation, sizes, memory and bad input."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from polsess.models import create_model
from polsess.models.layers import tf_grid
from polsess.models.layers.tf_grid import FrameAttention, GridBlock, GridPath
from polsess.models.tfgridnet import RowwiseLSTM
from polsess.schema import ConfigError


def perturb(module: nn.Module) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)


def naive_path(path: GridPath, grid: Tensor) -> Tensor:
    """One row and one window at a time."""
    size, stride, channels = path.window_size, path.stride, grid.shape[-1]
    result = grid.clone()
    for item in range(grid.shape[0]):
        for row in range(grid.shape[1]):
            normed = path.norm(grid[item, row])
            starts = range(0, len(normed) - size + 1, stride)
            windows = torch.stack([normed[start : start + size].flatten() for start in starts])
            steps = path.projection(path.sequence(windows[None]))[0]
            for start, window in zip(starts, steps, strict=True):
                result[item, row, start : start + size] += window.view(size, channels)
            if path.bias is not None:
                result[item, row] += path.bias
    return result


def naive_attention(attention: FrameAttention, grid: Tensor) -> Tensor:
    """One head and one query frame at a time."""
    batch, frames, bins, channels = grid.shape
    heads = []
    for head in range(attention.num_heads):
        projected = []
        for part in (attention.query, attention.key, attention.value):
            features = part.linear(grid).unflatten(-1, (attention.num_heads, -1))[:, :, :, head]
            features = torch.where(features >= 0, features, part.slope[head] * features)
            features = F.layer_norm(
                features, features.shape[-2:], part.weight[head], part.bias[head], part.eps
            )
            projected.append(features)  # [B, L, F, E]
        query, key, value = projected
        scale = math.sqrt(query[0, 0].numel())
        scores = torch.einsum("blfe,bmfe->blm", query, key) / scale
        heads.append(torch.einsum("blm,bmfe->blfe", scores.softmax(-1), value))
    joined = torch.stack(heads, dim=3).reshape(batch, frames, bins, channels)
    return attention.norm(attention.activation(attention.linear(joined)))


def naive_block(block: GridBlock, grid: Tensor) -> Tensor:
    frames, bins = grid.shape[1:3]
    before = block.padding
    after = [0, 0]
    for axis, length in enumerate((frames, bins)):
        while (length + before + after[axis] - block.window_size) % block.stride or after[axis] < before:
            after[axis] += 1
        after[axis] = max(after[axis], block.window_size - length - before)
    padded = F.pad(grid, (0, 0, before, after[1], before, after[0]))
    padded = naive_path(block.frequency_path, padded)
    padded = naive_path(block.time_path, padded.transpose(1, 2)).transpose(1, 2)
    grid = padded[:, before : before + frames, before : before + bins]
    return grid + naive_attention(block.attention, grid)


@pytest.mark.parametrize(("window", "stride"), [(1, 1), (3, 1), (3, 2), (4, 3), (3, 3)])
@pytest.mark.parametrize("pad_both_ends", [False, True])
@pytest.mark.parametrize("frames", [1, 2, 8])
def test_a_block_is_its_definition(window: int, stride: int, pad_both_ends: bool, frames: int) -> None:
    block = GridBlock(
        4,
        7,
        window,
        stride,
        lambda: RowwiseLSTM(window * 4, 3),
        6,
        num_heads=2,
        approximate_qk_size=20,
        pad_both_ends=pad_both_ends,
    ).double()
    perturb(block)
    grid = torch.randn(2, frames, 7, 4, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(block(grid), naive_block(block, grid))


def test_blocks_of_queries_and_rows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = create_model("tfgridnet", preset="tiny").double().eval()
    perturb(model)
    mixture = torch.randn(2, 2500, dtype=torch.float64)  # 157 frames: three blocks of rows
    whole = model(mixture).detach()
    monkeypatch.setattr(tf_grid, "_ATTENTION_ELEMENTS", 2 * 2 * 157 * 10)
    with torch.no_grad():
        torch.testing.assert_close(model(mixture), whole)


@pytest.mark.parametrize(
    ("preset", "size"),
    [("wsj0_2mix", 14_521_042), ("icassp", 8_175_874), ("small", 1_699_544)],
)
@pytest.mark.parametrize("version", [1, 2])
def test_published_sizes(preset: str, size: int, version: int) -> None:
    with torch.device("meta"):
        model = create_model("tfgridnet", preset=preset, version=version)
    assert sum(parameter.numel() for parameter in model.parameters()) == size


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_channels": 9}, "must be a multiple of num_heads"),
        ({"stride": 4}, "must be at most kernel_size"),
        ({"hop_length": 17}, "at most half"),
        ({"version": 3}, "version"),
        ({"eps": 0.0}, "eps"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        create_model("tfgridnet", preset="tiny", **changes)


def test_every_window_is_heard() -> None:
    base = create_model("tfgridnet", preset="tiny").eval()
    for window in ("hamming", "sqrt_hann", "rectangular"):
        other = create_model("tfgridnet", preset="tiny", window=window).eval()
        other.load_state_dict(base.state_dict())
        mixture = torch.randn(1, 400)
        with torch.no_grad():
            assert not torch.allclose(base(mixture), other(mixture), atol=1e-4)
