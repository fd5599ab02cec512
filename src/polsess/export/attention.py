"""Attention for graphs that have no fused operator for it: in blocks of queries, so that memory is bounded.

Shapes: M queries, K keys, E features, N features of values; what comes before is batches and heads.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

_BLOCKS = 16
"""A fixed number, since a graph has no loop: of all scores, a sixteenth is there at once."""


def attention_in_blocks(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,  # noqa: ARG001 - of training
    is_causal: bool = False,
    scale: float | None = None,
) -> Any:
    """As ``torch.nn.functional.scaled_dot_product_attention``, for graphs of ONNX.

    Args:
        query: ``[..., M, E]``.
        key: ``[..., K, E]``.
        value: ``[..., K, N]``.
        attn_mask: Added to the scores, or true where a query may attend, ``[..., M, K]``.
        dropout_p: Not done: what is exported does not train.
        is_causal: Left to torch.
        scale: Of the products; None for that of E features.

    Returns:
        ``[..., M, N]``; ``NotImplemented`` where torch's own is to be used: elsewhere than in graphs of ONNX.
    """
    if is_causal or not torch.onnx.is_in_onnx_export():
        return NotImplemented
    length = query.shape[-2]
    size = (length + _BLOCKS - 1) // _BLOCKS
    behind = size * _BLOCKS - length
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    query = F.pad(query * scale, (0, 0, 0, behind))
    mask = None if attn_mask is None else F.pad(_additive(attn_mask, query), (0, 0, 0, behind))
    mixed = []
    for number in range(_BLOCKS):
        rows = slice(number * size, (number + 1) * size)
        scores = query[..., rows, :] @ key.transpose(-1, -2)
        scores = scores if mask is None else scores + mask[..., rows, :]
        mixed.append(scores.softmax(-1) @ value)
    return torch.cat(mixed, -2)[..., :length, :]


def _additive(mask: Tensor, like: Tensor) -> Tensor:
    if mask.dtype is not torch.bool:
        return mask
    least = torch.full((), torch.finfo(like.dtype).min, dtype=like.dtype)
    return torch.where(mask, torch.zeros((), dtype=like.dtype), least)
