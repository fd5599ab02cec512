"""Attention of heads, and transformer encoders of it.

Vaswani et al. (2017), "Attention is all you need", https://arxiv.org/abs/1706.03762; normalisation before
each part: Xiong et al. (2020), https://arxiv.org/abs/2002.04745.

Shapes: B sequences, L tokens, D features, H heads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from polsess.models.layers.blocks import into_first
from polsess.models.layers.kernels import attention_native
from polsess.models.layers.positions import sinusoidal_positions
from polsess.models.layers.products import Linear, matmul
from polsess.models.layers.stft import at_least_float32, without_autocast

FeedForwardActivation = Literal["relu", "gelu", "silu"]
"""Activation between the two linear maps of a feed-forward network."""

_SMOOTH: dict[str, Callable[[Tensor], Tensor]] = {"gelu": F.gelu, "silu": F.silu}


def activate(features: Tensor, activation: FeedForwardActivation) -> Tensor:
    """Apply an activation; the features may be overwritten where no gradients are recorded."""
    if activation == "relu":
        # In place only without gradients: on the view that a product returns, autograd would copy it all.
        return F.relu(features, inplace=not torch.is_grad_enabled())
    return _SMOOTH[activation](features)


def by_head(features: Tensor, num_heads: int) -> Tensor:
    """A view ``[..., H, L, D / H]`` of ``[..., L, D]``."""
    return features.unflatten(-1, (num_heads, -1)).transpose(-3, -2)


def fused_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None = None,
    dropout: float = 0.0,
    *,
    causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """PyTorch's fused attention, with gradients on a CPU in float32 whatever the type.

    Its way back in bfloat16 takes up to ten times as long as in float32 there.

    Args:
        query: ``[..., M, E]``.
        key: ``[..., K, E]``.
        value: ``[..., K, E]``.
        bias: ``[..., M, K]``, added to the scores; or what a query sees, of bool.
        dropout: Share of the weights dropped.
        causal: Whether a query sees only itself and what comes before.
        scale: Of the scores; None for the inverse root of E.

    Returns:
        ``[..., M, E]``.
    """
    if not torch.is_grad_enabled() or query.device.type != "cpu":
        return F.scaled_dot_product_attention(query, key, value, bias, dropout, causal, scale=scale)
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else query.dtype
    query, key, value = (at_least_float32(each) for each in (query, key, value))
    if bias is not None and bias.dtype != torch.bool:
        bias = at_least_float32(bias)
    with without_autocast(query):
        mixed = F.scaled_dot_product_attention(query, key, value, bias, dropout, causal, scale=scale)
    return mixed.to(dtype)


def attend(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None, dropout: float = 0.0
) -> Tensor:
    """Attention of heads that PyTorch's fused attention on a CPU does not take, or not well.

    It multiplies heads whose values are wider or narrower than their queries one product after the other, in
    float32 whatever their type, and always by MKL. A GPU has a fused kernel for them, a graph its own form.

    Args:
        query: ``[..., M, E]``.
        key: ``[..., K, E]``.
        value: ``[..., K, N]``.
        bias: ``[..., M, K]``, added to the scores.
        dropout: Share of the weights dropped.

    Returns:
        ``[..., M, N]``.
    """
    if query.device.type != "cpu" or torch.compiler.is_compiling():
        return fused_attention(query, key, value, bias, dropout)
    scores = matmul(query * query.shape[-1] ** -0.5, key.mT)
    if bias is not None:
        scores = into_first(torch.add, scores, bias)
    return matmul(F.dropout(scores.softmax(-1), dropout), value)


class SelfAttention(nn.Module):
    """Multi-head self-attention; one matrix gives queries, keys and values.

    Args:
        d_model: D.
        num_heads: H, a divisor of D.
        dropout: Share of attention weights dropped in training.
        causal: Whether a token sees only itself and earlier tokens.
    """

    def __init__(self, d_model: int, num_heads: int, *, dropout: float = 0.0, causal: bool = False) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.causal = causal
        self.qkv = Linear(d_model, 3 * d_model)
        self.out = Linear(d_model, d_model)
        nn.init.xavier_uniform_(self.qkv.weight)
        nn.init.zeros_(self.qkv.bias)
        nn.init.zeros_(self.out.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """Attend.

        Args:
            tokens: ``[B, L, D]``.

        Returns:
            ``[B, L, D]``.
        """
        projected, dropout = self.qkv(tokens), self.dropout if self.training else 0.0
        if not (dropout or self.causal):
            heads = projected.unflatten(-1, (3, self.num_heads, -1))  # [B, L, 3, H, D / H]
            if attention_native.is_available(heads) or attention_native.has_gradients(heads):
                return self.out(attention_native.attend(heads))
        # Cut along the last dimension: backwards that is one concatenation.
        query, key, value = (by_head(part, self.num_heads) for part in projected.chunk(3, dim=-1))
        mixed = fused_attention(query, key, value, dropout=dropout, causal=self.causal)
        return self.out(mixed.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """Two linear maps with an activation between, for each token alone.

    Args:
        d_model: D.
        d_ffn: Features between the two.
        dropout: Share of activations dropped in training.
        activation: Activation between the two.
    """

    def __init__(
        self, d_model: int, d_ffn: int, *, dropout: float = 0.0, activation: FeedForwardActivation = "relu"
    ) -> None:
        super().__init__()
        self.activation: FeedForwardActivation = activation
        self.expand = Linear(d_model, d_ffn)
        self.dropout = nn.Dropout(dropout)
        self.reduce = Linear(d_ffn, d_model)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map ``[B, L, D]`` to ``[B, L, D]``."""
        hidden = activate(self.expand(tokens), self.activation)
        return self.reduce(self.dropout(hidden))


class TransformerLayer(nn.Module):
    """Self-attention and a feed-forward network, each with a residual connection.

    Args:
        d_model: D.
        num_heads: H, a divisor of D.
        d_ffn: Features inside the feed-forward network.
        dropout: Share dropped in training: attention weights, hidden activations, both outputs.
        activation: Of the feed-forward network.
        norm_first: Whether each part normalises its input (pre-norm), else the sum after it (post-norm).
        causal: Whether a token sees only itself and earlier tokens.
        eps: Added to the variances.
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        d_ffn: int,
        *,
        dropout: float = 0.0,
        activation: FeedForwardActivation = "relu",
        norm_first: bool = True,
        causal: bool = False,
        eps: float = 1e-6,
    ) -> None:
        super().__init__()
        self.norm_first = norm_first
        self.attention = SelfAttention(d_model, num_heads, dropout=dropout, causal=causal)
        self.feed_forward = FeedForward(d_model, d_ffn, dropout=dropout, activation=activation)
        self.attention_norm = nn.LayerNorm(d_model, eps=eps)
        self.feed_forward_norm = nn.LayerNorm(d_model, eps=eps)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map ``[B, L, D]`` to ``[B, L, D]``."""
        if self.norm_first:
            tokens = tokens + self.dropout(self.attention(self.attention_norm(tokens)))
            return tokens + self.dropout(self.feed_forward(self.feed_forward_norm(tokens)))
        tokens = self.attention_norm(tokens + self.dropout(self.attention(tokens)))
        return self.feed_forward_norm(tokens + self.dropout(self.feed_forward(tokens)))


class TransformerStack(nn.Module):
    """Positions, transformer layers, and a last normalisation where asked.

    Args:
        num_layers: Number of layers.
        d_model: D.
        num_heads: H, a divisor of D.
        d_ffn: Features inside the feed-forward networks.
        positional_encoding: Whether sinusoidal positions are added to the input; D must then be even.
        dropout: See ``TransformerLayer``.
        activation: See ``TransformerLayer``.
        norm_first: See ``TransformerLayer``.
        causal: See ``TransformerLayer``.
        eps: Added to all variances.
        final_norm: Whether a normalisation follows the last layer.
    """

    def __init__(
        self,
        num_layers: int,
        d_model: int,
        num_heads: int,
        d_ffn: int,
        *,
        positional_encoding: bool = True,
        dropout: float = 0.0,
        activation: FeedForwardActivation = "relu",
        norm_first: bool = True,
        causal: bool = False,
        eps: float = 1e-6,
        final_norm: bool = True,
    ) -> None:
        super().__init__()
        self.positional_encoding = positional_encoding
        self.layers = nn.ModuleList(
            TransformerLayer(
                d_model,
                num_heads,
                d_ffn,
                dropout=dropout,
                activation=activation,
                norm_first=norm_first,
                causal=causal,
                eps=eps,
            )
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(d_model, eps=eps) if final_norm else nn.Identity()

    def forward(self, tokens: Tensor) -> Tensor:
        """Map ``[B, L, D]`` to ``[B, L, D]``; the sequences do not see each other."""
        if self.positional_encoding:
            length, features = tokens.shape[1:]
            tokens = tokens + sinusoidal_positions(length, features, device=tokens.device, dtype=tokens.dtype)
        for layer in self.layers:
            tokens = layer(tokens)
        return self.norm(tokens)
