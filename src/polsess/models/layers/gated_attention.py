"""Attention and gated convolution along sequences, with root-mean-square norms before both.

Rotary positions: Su et al. (2021), "RoFormer", https://arxiv.org/abs/2104.09864; gates: Shazeer (2020), "GLU
variants improve transformer", https://arxiv.org/abs/2002.05202; half steps around attention: Gulati et al.
(2020), "Conformer", https://arxiv.org/abs/2005.08100.

Shapes: B batch, C speakers, L frames, F frequency bins, D channels; N sequences of S steps, H heads of E
features; Q queries.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from polsess.models.layers.attention import by_head, fused_attention
from polsess.models.layers.blocks import runs_in_blocks
from polsess.models.layers.positions import RotaryRates, rotate
from polsess.models.layers.products import Linear
from polsess.models.layers.stft import at_least_float32

MAX_NUMBERS = 1 << 24
"""Hidden features held at once in inference."""


@dataclass(frozen=True)
class Sizes:
    """What the parts of one network have in common."""

    num_channels: int
    """D, a multiple of 2 ``num_heads``."""
    num_heads: int
    """H."""
    dropout: float = 0.0
    """Share of attention weights and hidden features dropped in training."""


class RMSNorm(nn.RMSNorm):
    """Root-mean-square norm in at least float32."""

    def forward(self, features: Tensor) -> Tensor:
        """Map ``[..., D]`` to the same shape."""
        wide = at_least_float32(features)
        return F.rms_norm(wide, self.normalized_shape, self.weight.to(wide.dtype)).to(features.dtype)


class GatedFeedForward(nn.Module):
    """Norm, convolution, gate, convolution along a sequence; with one tap for each step alone.

    Args:
        sizes: Of the network.
        hidden_size: Features inside.
        kernel_size: Taps, odd.
    """

    def __init__(self, sizes: Sizes, hidden_size: int, kernel_size: int = 1) -> None:
        super().__init__()
        num_channels = sizes.num_channels
        self.norm = RMSNorm(num_channels)
        self.dropout = nn.Dropout(sizes.dropout)
        self.expand: Linear | nn.Conv1d
        self.reduce: Linear | nn.Conv1d
        if kernel_size == 1:
            self.expand = Linear(num_channels, 2 * hidden_size)
            self.reduce = Linear(hidden_size, num_channels)
        else:
            self.expand = nn.Conv1d(num_channels, 2 * hidden_size, kernel_size, padding=kernel_size // 2)
            self.reduce = nn.Conv1d(hidden_size, num_channels, kernel_size, padding=kernel_size // 2)

    def forward(self, sequences: Tensor) -> Tensor:
        """Map ``[N, S, D]`` to the same shape."""
        value, gate = self._map(self.expand, self.norm(sequences)).chunk(2, dim=-1)
        return self._map(self.reduce, self.dropout(value * F.silu(gate)))

    @staticmethod
    def _map(layer: Linear | nn.Conv1d, features: Tensor) -> Tensor:
        if isinstance(layer, Linear):
            return layer(features)
        # As a two-dimensional convolution with channels last: the sequences are never transposed.
        image = features.unsqueeze(1).permute(0, 3, 1, 2)  # [N, D, 1, S]
        weight, padding = layer.weight.unsqueeze(2), (0, layer.kernel_size[0] // 2)
        return F.conv2d(image, weight, layer.bias, padding=padding).permute(0, 2, 3, 1).squeeze(1)


class Attention(nn.Module):
    """Norm and multi-head attention without biases, to the sequence itself or to another one.

    Args:
        sizes: Of the network.
        rotation: The rates by which queries and keys are rotated; None for tokens without order.
        cross: Whether keys and values come from another sequence.
        causal: Whether a token sees only itself and earlier ones.
    """

    def __init__(
        self, sizes: Sizes, *, rotation: RotaryRates | None = None, cross: bool = False, causal: bool = False
    ) -> None:
        super().__init__()
        self.num_heads, self.causal, self.dropout = sizes.num_heads, causal, sizes.dropout
        channels = sizes.num_channels
        self.norm = RMSNorm(channels)
        self.rotation = rotation
        self.to_query = Linear(channels, channels, bias=False) if cross else None
        self.to_rest = Linear(channels, (2 if cross else 3) * channels, bias=False)
        self.to_output = Linear(channels, channels, bias=False)

    def forward(self, tokens: Tensor, others: Tensor | None = None) -> Tensor:
        """Map ``[N, S, D]``, attending to itself or to ``[N, S', D]``."""
        tokens = self.norm(tokens)
        heads = self._heads(self.to_rest(tokens if others is None else others))
        if self.to_query is not None:
            heads = [*self._heads(self.to_query(tokens)), *heads]
        query, key, value = heads  # each [N, H, S, E]
        if self.rotation is not None:
            precise = at_least_float32(query)
            tables = self.rotation(query.shape[-2], precise)
            query = rotate(precise, *tables).to(value.dtype)
            key = rotate(at_least_float32(key), *tables).to(value.dtype)
        mixed = fused_attention(
            query, key, value, dropout=self.dropout if self.training else 0.0, causal=self.causal
        )
        return self.to_output(mixed.transpose(1, 2).flatten(2))

    def _heads(self, projected: Tensor) -> list[Tensor]:
        """Several ``[N, H, S, E]`` of the projections side by side."""
        features = self.to_output.in_features
        return [by_head(part, self.num_heads) for part in projected.split(features, -1)]


class SequenceBlock(nn.Module):
    """Half a feed-forward network, attention, half a feed-forward network; each with a residual.

    Args:
        sizes: Of the network.
        hidden_size: Features inside the feed-forward networks.
        kernel_size: Taps of their convolutions, odd.
        rotation: The rates of the rotary positions.
    """

    def __init__(self, sizes: Sizes, hidden_size: int, kernel_size: int, rotation: RotaryRates) -> None:
        super().__init__()
        self.ffn_before = GatedFeedForward(sizes, hidden_size, kernel_size)
        self.attention = Attention(sizes, rotation=rotation)
        self.ffn_after = GatedFeedForward(sizes, hidden_size, kernel_size)
        self.widest = max(2 * hidden_size, 3 * sizes.num_channels)

    def forward(self, sequences: Tensor) -> Tensor:
        """Map ``[N, S, D]`` to the same shape; the sequences do not see each other."""
        if not runs_in_blocks():
            return self._block(sequences)
        size = max(1, MAX_NUMBERS // (sequences.shape[1] * self.widest))
        return torch.cat([self._block(part) for part in sequences.split(size)])

    def _block(self, sequences: Tensor) -> Tensor:
        sequences = sequences + 0.5 * self.ffn_before(sequences)
        sequences = sequences + self.attention(sequences)
        return sequences + 0.5 * self.ffn_after(sequences)


class GridBlock(nn.Module):
    """Attention and convolution along frequency, then along time.

    Args:
        sizes: Of the network.
        hidden_size: Features inside the feed-forward networks.
        kernel_size: Taps of their convolutions, odd.
        rotation: The rates of the rotary positions.
    """

    def __init__(self, sizes: Sizes, hidden_size: int, kernel_size: int, rotation: RotaryRates) -> None:
        super().__init__()
        self.frequency = SequenceBlock(sizes, hidden_size, kernel_size, rotation)
        self.time = SequenceBlock(sizes, hidden_size, kernel_size, rotation)

    def forward(self, grid: Tensor) -> Tensor:
        """Map ``[B, L, F, D]`` to the same shape."""
        grid = self.frequency(grid.flatten(0, 1)).view(grid.shape)
        columns = grid.transpose(1, 2)
        return self.time(columns.flatten(0, 1)).view(columns.shape).transpose(1, 2)


class SpeakerBlock(nn.Module):
    """Attention across the speakers in every bin, then a feed-forward network; each with a residual.

    Args:
        sizes: Of the network.
        hidden_size: Features inside the feed-forward network.
    """

    def __init__(self, sizes: Sizes, hidden_size: int) -> None:
        super().__init__()
        self.attention = Attention(sizes)
        self.ffn = GatedFeedForward(sizes, hidden_size)
        self.widest = max(2 * hidden_size, 3 * sizes.num_channels)

    def forward(self, grids: Tensor) -> Tensor:
        """Map ``[B, C, L, F, D]`` to the same shape."""
        bins = grids.permute(0, 2, 3, 1, 4)
        rows = bins.flatten(0, 2)  # [B L F, C, D]
        size = rows.shape[0]
        if runs_in_blocks():
            size = max(1, MAX_NUMBERS // (rows.shape[1] * self.widest))
        parts = [self._block(part) for part in rows.split(size)]
        return torch.cat(parts).view(bins.shape).permute(0, 3, 1, 2, 4)

    def _block(self, rows: Tensor) -> Tensor:
        rows = rows + self.attention(rows)
        return rows + self.ffn(rows)


class AttractorLayer(nn.Module):
    """Queries attend to the grid, then to themselves and earlier ones, then pass a feed-forward network.

    Args:
        sizes: Of the network.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.cross_attention = Attention(sizes, cross=True)
        self.self_attention = Attention(sizes, causal=True)
        self.ffn = GatedFeedForward(sizes, 4 * sizes.num_channels)

    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Map ``[B, Q, D]`` to the same shape, given ``[B, S, D]``."""
        queries = queries + self.cross_attention(queries, keys)
        queries = queries + self.self_attention(queries)
        return queries + self.ffn(queries)
