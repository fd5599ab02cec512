"""Conformer encoders: self-attention and a convolution between two half feed-forward networks.

Gulati et al. (2020), "Conformer", https://arxiv.org/abs/2005.08100, with a layer normalisation in place of
batch normalisation; relative positions: Dai et al. (2019), "Transformer-XL", section 3.3,
https://arxiv.org/abs/1901.02860.

Shapes: B sequences, L tokens, D features, H heads.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from polsess.models.layers.attention import (
    FeedForward,
    FeedForwardActivation,
    SelfAttention,
    activate,
    by_head,
    fused_attention,
)
from polsess.models.layers.depthwise import DepthwiseConv
from polsess.models.layers.norms import without_decay
from polsess.models.layers.positions import sinusoidal_positions
from polsess.models.layers.products import Linear


class RelativeSelfAttention(nn.Module):
    """Multi-head self-attention whose scores depend on the distance of two tokens too.

    As in SpeechBrain, scores are divided by the root of D, and distances are told apart by the sinusoids of
    positions counted from the one furthest behind.

    Args:
        d_model: D, even.
        num_heads: H, a divisor of D.
        dropout: Share of attention weights dropped in training.
    """

    def __init__(self, d_model: int, num_heads: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.qkv = Linear(d_model, 3 * d_model, bias=False)
        self.positions = Linear(d_model, d_model, bias=False)
        self.content_bias = without_decay(nn.Parameter(torch.zeros(num_heads, d_model // num_heads)))
        self.position_bias = without_decay(nn.Parameter(torch.zeros(num_heads, d_model // num_heads)))
        self.out = Linear(d_model, d_model)
        nn.init.xavier_uniform_(self.qkv.weight)

    def forward(self, tokens: Tensor) -> Tensor:
        """Attend.

        Args:
            tokens: ``[B, L, D]``.

        Returns:
            ``[B, L, D]``.
        """
        length, features = tokens.shape[1:]
        table = sinusoidal_positions(2 * length - 1, features, device=tokens.device, dtype=tokens.dtype)
        query, key, value = (by_head(part, self.num_heads) for part in self.qkv(tokens).chunk(3, dim=-1))
        distances = by_head(self.positions(table), self.num_heads)  # [H, 2L - 1, D / H]
        scale = 1.0 / math.sqrt(features)
        scores = (query + self.position_bias.unsqueeze(1)) @ (distances * scale).mT  # [B, H, L, 2L - 1]
        mixed = fused_attention(
            query + self.content_bias.unsqueeze(1),
            key,
            value,
            _by_pair(scores),
            self.dropout if self.training else 0.0,
            scale=scale,
        )
        return self.out(mixed.transpose(1, 2).flatten(2))


def _by_pair(scores: Tensor) -> Tensor:
    """From the score of each distance, ``[B, H, L, 2L - 1]``, to that of each key, ``[B, H, L, L]``.

    Key j of query i is at place L - 1 - i + j, so each row begins one place before the row above it: with a
    place more in front of each row, rows of 2L - 1 that begin behind the first L places.
    """
    length = scores.shape[2]
    shifted = F.pad(scores, (1, 0)).flatten(2)[..., length:]
    return shifted.unflatten(2, (length, -1))[..., :length]


class ConvolutionModule(nn.Module):
    """A gated linear map, a depth-wise convolution and a linear map, for a residual connection.

    Args:
        d_model: D.
        kernel_size: Tokens of a filter, odd.
        bias: Whether the maps and the filters have offsets.
        dropout: Share of the outputs dropped in training.
        activation: Activation after the convolution.
    """

    def __init__(
        self, d_model: int, kernel_size: int, *, bias: bool, dropout: float, activation: FeedForwardActivation
    ) -> None:
        super().__init__()
        self.activation: FeedForwardActivation = activation
        self.norm = nn.LayerNorm(d_model)
        self.expand = Linear(d_model, 2 * d_model, bias=bias)
        self.depthwise = DepthwiseConv(d_model, kernel_size, bias=bias)
        self.depthwise_norm = nn.LayerNorm(d_model)
        self.project = Linear(d_model, d_model, bias=bias)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map ``[B, L, D]`` to ``[B, L, D]``."""
        hidden = self.depthwise(F.glu(self.expand(self.norm(tokens))))
        return self.dropout(self.project(activate(self.depthwise_norm(hidden), self.activation)))


class ConformerLayer(nn.Module):
    """Half a feed-forward network, self-attention, a convolution, and the other half.

    Args:
        d_model: D.
        num_heads: H, a divisor of D.
        d_ffn: Features inside the feed-forward networks.
        conv_kernel_size: Tokens of a filter, odd.
        conv_bias: Whether the convolution has offsets.
        relative_positions: Whether the attention knows the distance of tokens.
        dropout: Share dropped in training.
        activation: Activation of the feed-forward networks and the convolution.
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        d_ffn: int,
        *,
        conv_kernel_size: int,
        conv_bias: bool,
        relative_positions: bool,
        dropout: float,
        activation: FeedForwardActivation,
    ) -> None:
        super().__init__()
        attention = RelativeSelfAttention if relative_positions else SelfAttention
        self.attention_norm = nn.LayerNorm(d_model)
        self.attention = attention(d_model, num_heads, dropout=dropout)
        self.convolution = ConvolutionModule(
            d_model, conv_kernel_size, bias=conv_bias, dropout=dropout, activation=activation
        )
        self.first_norm, self.second_norm = nn.LayerNorm(d_model), nn.LayerNorm(d_model)
        self.first_feed_forward, self.second_feed_forward = (
            FeedForward(d_model, d_ffn, dropout=dropout, activation=activation) for _ in range(2)
        )
        self.feed_forward_norm = nn.LayerNorm(d_model)  # of the sum, at the layer's end
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map ``[B, L, D]`` to ``[B, L, D]``."""
        tokens = tokens + 0.5 * self.dropout(self.first_feed_forward(self.first_norm(tokens)))
        tokens = tokens + self.attention(self.attention_norm(tokens))
        tokens = tokens + self.convolution(tokens)
        tokens = tokens + 0.5 * self.dropout(self.second_feed_forward(self.second_norm(tokens)))
        return self.feed_forward_norm(tokens)


class ConformerStack(nn.Module):
    """Conformer layers and a last normalisation.

    Args:
        num_layers: Number of layers.
        d_model: D.
        num_heads: H, a divisor of D.
        d_ffn: Features inside the feed-forward networks.
        conv_kernel_size: Tokens of a filter, odd.
        conv_bias: Whether the convolutions have offsets.
        positions: ``relative`` for distances in the attention, ``absolute`` for sinusoids added to the input.
            Both need an even D.
        dropout: Share dropped in training.
        activation: Activation of the feed-forward networks and the convolutions.
    """

    def __init__(
        self,
        num_layers: int,
        d_model: int,
        num_heads: int,
        d_ffn: int,
        *,
        conv_kernel_size: int = 31,
        conv_bias: bool = True,
        positions: str = "relative",
        dropout: float = 0.0,
        activation: FeedForwardActivation = "silu",
    ) -> None:
        super().__init__()
        self.absolute_positions = positions == "absolute"
        self.layers = nn.ModuleList(
            ConformerLayer(
                d_model,
                num_heads,
                d_ffn,
                conv_kernel_size=conv_kernel_size,
                conv_bias=conv_bias,
                relative_positions=positions == "relative",
                dropout=dropout,
                activation=activation,
            )
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(d_model, eps=1e-6)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map ``[B, L, D]`` to ``[B, L, D]``; the sequences do not see each other."""
        if self.absolute_positions:
            length, features = tokens.shape[1:]
            tokens = tokens + sinusoidal_positions(length, features, device=tokens.device, dtype=tokens.dtype)
        for layer in self.layers:
            tokens = layer(tokens)
        return self.norm(tokens)
