"""Blocks on a time-frequency grid: along frequency, along time, and full-band attention over frames.

Wang et al. (2023), "TF-GridNet: Integrating full- and sub-band modeling for speech separation",
https://arxiv.org/abs/2211.12433. The caller brings the sequence models of the two axes: LSTMs in
TF-GridNet, bidirectional Mamba layers in SPMamba.

Shapes: B batch, L frames, F frequency bins, D channels; R rows that are independent sequences of S steps;
I window size and J its stride along a sequence, W windows; H heads, E channels of a head.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from polsess.models.layers.attention import attend
from polsess.models.layers.norms import without_decay
from polsess.models.layers.prelu import PReLU, prelu
from polsess.models.layers.products import Linear
from polsess.models.layers.stft import at_least_float32, without_autocast

# Elements of the attention matrix that exist at a time: 128 MiB in float32.
_ATTENTION_ELEMENTS = 2**25


def check_grid(num_channels: int, num_heads: int, kernel_size: int, stride: int) -> None:
    """Check the sizes of grid blocks, called as the fields of the configurations.

    Raises:
        ValueError: If they do not fit.
    """
    if num_channels % num_heads:
        raise ValueError(f"num_channels={num_channels} must be a multiple of num_heads={num_heads}.")
    if stride > kernel_size:
        raise ValueError(f"stride={stride} must be at most kernel_size={kernel_size}.")


class GridPath(nn.Module):
    """A residual sub-block along one axis: norm, windows, sequence model, overlap-add.

    Args:
        num_channels: D.
        window_size: I, neighbouring steps that the sequence model sees as one.
        stride: J.
        sequence: Maps ``[N, W, I * D]`` to ``[N, W, out_features]``; within a window the channels are the
            minor order.
        out_features: What ``sequence`` gives.
        eps: Added to the variance in the norm.
        bias_per_step: Whether each step of a window has a bias of its own, rather than one after overlap-add.
    """

    def __init__(
        self,
        num_channels: int,
        window_size: int,
        stride: int,
        sequence: nn.Module,
        out_features: int,
        *,
        eps: float = 1e-5,
        bias_per_step: bool = False,
    ) -> None:
        super().__init__()
        self.window_size = window_size
        self.stride = stride
        self.norm = nn.LayerNorm(num_channels, eps=eps)
        self.sequence = sequence
        self.projection = Linear(out_features, window_size * num_channels, bias=bias_per_step)
        self.bias = None if bias_per_step else nn.Parameter(torch.zeros(num_channels))

    def forward(self, grid: Tensor) -> Tensor:
        """Run along the steps.

        Args:
            grid: ``[B, R, S, D]`` where windows fit: S = I + a multiple of J.

        Returns:
            The same shape.
        """
        rows = self.norm(grid).flatten(0, 1)  # [N, S, D]
        channels = rows.shape[-1]
        # Channels are last, so that overlapping windows are a view of the rows.
        windows = rows.flatten(1).unfold(1, self.window_size * channels, self.stride * channels)
        steps = self.projection(self.sequence(windows))  # [N, W, I * D]
        steps = self._overlap_add(steps.unflatten(-1, (self.window_size, channels)))  # [N, S, D]
        if self.bias is not None:
            steps = steps + self.bias
        return steps.view(grid.shape) + grid

    def _overlap_add(self, windows: Tensor) -> Tensor:
        """``[N, W, I, D]`` -> ``[N, S, D]``."""
        if self.stride == self.window_size:
            return windows.flatten(1, 2)
        reach = (windows.shape[1] - 1) * self.stride + 1
        total = windows.new_zeros(windows.shape[0], reach + self.window_size - 1, windows.shape[-1])
        for step in range(self.window_size):
            total[:, step : step + reach : self.stride] += windows[:, :, step]
        return total


class HeadFeatures(nn.Module):
    """Queries, keys or values of all heads: projection, PReLU per head, norm over a frame per head.

    Args:
        num_channels: D.
        num_bins: F.
        num_heads: H.
        head_channels: E.
        eps: Added to the variance in the norm.
    """

    def __init__(
        self, num_channels: int, num_bins: int, num_heads: int, head_channels: int, eps: float
    ) -> None:
        super().__init__()
        self.linear = Linear(num_channels, num_heads * head_channels)
        self.slope = nn.Parameter(torch.full((num_heads,), 0.25))
        self.weight = without_decay(nn.Parameter(torch.ones(num_heads, num_bins, head_channels)))
        self.bias = without_decay(nn.Parameter(torch.zeros(num_heads, num_bins, head_channels)))
        self.eps = eps

    def forward(self, grid: Tensor) -> Tensor:
        """``[B, L, F, D]`` -> ``[B, H, L, F * E]``."""
        heads = self.linear(grid).unflatten(-1, (len(self.slope), -1)).permute(0, 3, 1, 2, 4)
        # Contiguous first: the PReLU then runs over whole heads, and the norm needs no copy.
        heads = prelu(heads.contiguous(), self.slope)  # [B, H, L, F, E]
        heads = F.layer_norm(heads, heads.shape[-2:], eps=self.eps)
        return torch.addcmul(self.bias[:, None], heads, self.weight[:, None]).flatten(3)


class FrameAttention(nn.Module):
    """Self-attention over frames; a head sees all frequencies of a frame as one vector.

    Memory grows with the number of frames, not with its square, outside training: the queries of long
    signals are taken in blocks.

    Args:
        num_channels: D.
        num_bins: F.
        num_heads: H, a divisor of D.
        qk_channels: E of queries and keys.
        eps: Added to the variance in the norms.
    """

    def __init__(
        self, num_channels: int, num_bins: int, num_heads: int, qk_channels: int, eps: float = 1e-5
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = HeadFeatures(num_channels, num_bins, num_heads, qk_channels, eps)
        self.key = HeadFeatures(num_channels, num_bins, num_heads, qk_channels, eps)
        self.value = HeadFeatures(num_channels, num_bins, num_heads, num_channels // num_heads, eps)
        self.linear = Linear(num_channels, num_channels)
        self.activation = PReLU()
        self.norm = nn.LayerNorm((num_bins, num_channels), eps=eps)
        for parameter in self.norm.parameters():
            without_decay(parameter)

    def forward(self, grid: Tensor) -> Tensor:
        """``[B, L, F, D]`` -> ``[B, L, F, D]``; the residual is the caller's."""
        with without_autocast(grid):  # scores add up whole frames: nearly all of the error
            grid = at_least_float32(grid)
            attended = self._attend(self.query(grid), self.key(grid), self.value(grid))
            heads = attended.unflatten(-1, (grid.shape[2], -1)).permute(0, 2, 3, 1, 4)  # [B, L, F, H, E]
            return self.norm(self.activation(self.linear(heads.flatten(3))))

    def _attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        num_frames = key.shape[2]
        block = max(1, _ATTENTION_ELEMENTS // (key.shape[0] * self.num_heads * num_frames))
        return torch.cat([attend(part, key, value) for part in query.split(block, dim=2)], dim=2)


class GridBlock(nn.Module):
    """One block: along frequency, along time, then attention over frames; each with its residual.

    Args:
        num_channels: D.
        num_bins: F.
        window_size: I.
        stride: J.
        create_sequence: Makes the sequence model of a path, see ``GridPath``.
        out_features: Features of a sequence model's output.
        num_heads: H.
        approximate_qk_size: E times F of queries and keys, rounded up to a multiple of F.
        eps: Added to the variance in the norms.
        pad_both_ends: Whether every step lies in equally many windows, by zeros before and behind, as in
            version 2 of TF-GridNet; else zeros come behind only, as many as the last window lacks.
    """

    def __init__(
        self,
        num_channels: int,
        num_bins: int,
        window_size: int,
        stride: int,
        create_sequence: Callable[[], nn.Module],
        out_features: int,
        *,
        num_heads: int,
        approximate_qk_size: int,
        eps: float = 1e-5,
        pad_both_ends: bool = False,
    ) -> None:
        super().__init__()
        self.window_size = window_size
        self.stride = stride
        self.padding = window_size - stride if pad_both_ends else 0
        bias_per_step = pad_both_ends and window_size == stride

        def path() -> GridPath:
            sequence = create_sequence()
            return GridPath(
                num_channels,
                window_size,
                stride,
                sequence,
                out_features,
                eps=eps,
                bias_per_step=bias_per_step,
            )

        self.frequency_path = path()
        self.time_path = path()
        qk_channels = math.ceil(approximate_qk_size / num_bins)
        self.attention = FrameAttention(num_channels, num_bins, num_heads, qk_channels, eps)

    def forward(self, grid: Tensor) -> Tensor:
        """``[B, L, F, D]`` -> ``[B, L, F, D]``."""
        frames, bins = grid.shape[1:3]
        first = self.padding
        padded = F.pad(grid, (0, 0, first, self._missing(bins), first, self._missing(frames)))
        padded = self.frequency_path(padded)
        # Padded frequencies cannot reach others from here on; padded frames can.
        columns = padded[:, :, first : first + bins].transpose(1, 2)  # [B, F, L', D]
        columns = self.time_path(columns)
        grid = columns[:, :, first : first + frames].transpose(1, 2)  # [B, L, F, D]
        return grid + self.attention(grid)

    def _missing(self, length: int) -> int:
        """Zeros behind ``length`` steps so that windows fit."""
        behind = max(0, length + 2 * self.padding - self.window_size)
        return behind + -behind % self.stride + self.window_size - length - self.padding
