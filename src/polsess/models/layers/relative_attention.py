"""Attention whose keys know how far they are from a query, in blocks of queries.

Shaw, Uszkoreit, Vaswani (2018), "Self-attention with relative position representations",
https://arxiv.org/abs/1803.02155.

Shapes: B batch, Q tokens, F features, H heads.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from polsess.models.layers.attention import attend
from polsess.models.layers.blocks import runs_in_blocks
from polsess.models.layers.kernels import attention_native
from polsess.models.layers.products import Linear, linear

_MAX_SCORES = 1 << 18
"""Scores of a head held at once, as many as a processor's cache holds: more come in blocks of queries."""


class RelativeAttention(nn.Module):
    """Normalisation and multi-head self-attention whose keys know how far they are; no residual.

    Args:
        num_features: F.
        num_heads: H, a divisor of F.
        dropout: Share of attention weights and outputs dropped in training.
    """

    def __init__(self, num_features: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm = nn.LayerNorm(num_features)
        self.qkv = Linear(num_features, 3 * num_features)
        self.out = Linear(num_features, num_features)
        self.dropout = nn.Dropout(dropout)
        self.scale = nn.Parameter(torch.full((num_features,), 1e-5))

    def forward(self, tokens: Tensor, distances: Tensor | None = None) -> Tensor:
        """Attend.

        Args:
            tokens: ``[B, Q, F]``.
            distances: Embeddings ``[2 D, F / H]`` of the distances -D to D - 1 from key to query, farther
                ones as the farthest; None where the order of tokens means nothing.

        Returns:
            ``[B, Q, F]``.
        """
        heads = self.qkv(self.norm(tokens)).unflatten(-1, (3, self.num_heads, -1))  # [B, Q, 3, H, F / H]
        dropout = self.dropout.p if self.training else 0.0
        if distances is None and tokens.device.type == "cpu":
            query, key, value = heads.unbind(2)
            mixed = _attend_few(query, key, value, dropout).flatten(2)
        elif not dropout and attention_native.is_available(heads):
            mixed = attention_native.attend(heads, distances)
        else:
            mixed = self._attend(heads.permute(2, 0, 3, 1, 4), distances, dropout).transpose(1, 2).flatten(2)
        return self.scale * self.dropout(self.out(mixed))

    def _attend(self, heads: Tensor, distances: Tensor | None, dropout: float) -> Tensor:
        """``[3, B, H, Q, F / H]`` to ``[B, H, Q, F / H]``, on a CPU in inference head by head."""
        if distances is None:
            query, key, value = heads
            return attend(query, key, value, dropout=dropout)
        if runs_in_blocks() and heads.device.type == "cpu":
            alone = heads.flatten(1, 2)[:, :, None, None].unbind(1)  # each [3, 1, 1, Q, F / H]
            mixed = [_attend_in_blocks(head, distances, dropout) for head in alone]
            return torch.cat(mixed).view(heads.shape[1:])
        return _attend_in_blocks(heads, distances, dropout)


def _attend_in_blocks(heads: Tensor, distances: Tensor, dropout: float) -> Tensor:
    """``[3, B, H, Q, D]`` to ``[B, H, Q, D]``, a block of queries after the other."""
    query, key, value = heads
    length, scale = query.shape[-2], query.shape[-1] ** -0.5
    block = length if torch.compiler.is_compiling() else max(1, _MAX_SCORES // length)  # a graph has no loop
    # The fused kernel has no gradient for a bias.
    mix = attend if torch.is_grad_enabled() else F.scaled_dot_product_attention
    mixed = []
    for number, part in enumerate(query.split(block, dim=-2)):
        bias = distance_scores(part * scale, distances, number * block, length)
        mixed.append(mix(part, key, value, bias, dropout))
    return torch.cat(mixed, dim=-2)


def _attend_few(query: Tensor, key: Tensor, value: Tensor, dropout: float) -> Tensor:
    """Attention of a handful of tokens ``[B, Q, H, D]``, for which the fused kernel takes thrice as long."""
    num_heads, size = query.shape[-2:]
    each = torch.eye(num_heads, device=query.device, dtype=query.dtype)
    heads = each.repeat_interleave(size, 1)  # [H, H * D]
    products = query.unsqueeze(2) * key.unsqueeze(1)  # [B, Q, Q, H, D]
    scores = linear(products.flatten(-2), heads * size**-0.5)  # a sum over D, which is slow as such
    weights = F.dropout(scores.softmax(2), dropout).unsqueeze(-1)
    first, *others = value.unbind(1)
    mixed = weights[:, :, 0] * first.unsqueeze(1)
    for index, other in enumerate(others, start=1):
        mixed = torch.addcmul(mixed, weights[:, :, index], other.unsqueeze(1))
    return mixed


def distance_scores(query: Tensor, distances: Tensor, start: int, length: int) -> Tensor:
    """Products of queries with the embeddings of their distances to all keys.

    Each query is multiplied with a run of distances; as the run moves by one from query to query, reading
    the products with a row one shorter lines the keys up.

    Args:
        query: ``[..., P, D]``, the queries from number ``start`` on.
        distances: ``[2 M, D]``, embeddings of -M to M - 1.
        start: The first query's position.
        length: Q, the number of keys.

    Returns:
        ``[..., P, Q]``.
    """
    num_queries, reach = query.shape[-2], len(distances) // 2
    highest = start + num_queries - 1
    runs = torch.arange(highest, highest - length - num_queries, -1, device=query.device)
    rows = F.embedding(runs.clamp(-reach, reach - 1) + reach, distances)  # [Q + P, D]
    products = linear(query, rows).flatten(-2)
    first, shorter = num_queries - 1, length + num_queries - 1
    lined_up = products[..., first : first + num_queries * shorter].unflatten(-1, (num_queries, shorter))
    return lined_up[..., :length]
