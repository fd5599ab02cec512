"""The equations of the transformer separators with the weights of a model here: loops, no kernels, no blocks.

Everything runs in double precision on one item.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from polsess.models.layers.attention import TransformerLayer, TransformerStack


def layer_norm(x: Tensor, norm: Any, over: tuple[int, ...], eps: float) -> Tensor:
    """Zero mean, unit variance over some dimensions; the last is the channels."""
    mean = x.mean(over, keepdim=True)
    variance = (x - mean).square().mean(over, keepdim=True)
    return (x - mean) / (variance + eps).sqrt() * norm.weight + norm.bias


def token_norm(x: Tensor, norm: Any, name: str | None, eps: float) -> Tensor:
    """gLN over all dimensions or cLN over the last."""
    return layer_norm(x, norm, tuple(range(x.ndim)) if name == "gLN" else (-1,), eps)


def attention(x: Tensor, layer: TransformerLayer, causal: bool) -> Tensor:
    """``[L, D]``, head by head."""
    length, width = x.shape
    weight, bias = layer.attention.qkv.weight, layer.attention.qkv.bias
    query, key, value = (
        x @ weight[i * width : (i + 1) * width].T + bias[i * width : (i + 1) * width] for i in range(3)
    )
    size = width // layer.attention.num_heads
    heads = []
    for begin in range(0, width, size):
        part = slice(begin, begin + size)
        scores = query[:, part] @ key[:, part].T / math.sqrt(size)
        if causal:
            scores = scores.masked_fill(torch.ones(length, length).triu(1) > 0, -math.inf)
        heads.append(torch.softmax(scores, dim=-1) @ value[:, part])
    return torch.cat(heads, dim=-1) @ layer.attention.out.weight.T + layer.attention.out.bias


def positions(length: int, width: int) -> Tensor:
    """The table by its formula, in single precision as the weights know it."""
    frequencies = torch.exp(torch.arange(0, width, 2).float() * -(math.log(10000.0) / width))
    table = torch.zeros(length, width)
    for row in range(length):
        table[row, 0::2] = (row * frequencies).sin()
        table[row, 1::2] = (row * frequencies).cos()
    return table.double()


def transformer(
    x: Tensor, stack: TransformerStack, *, norm_first: bool, activation: str, pe: bool, causal: bool = False
) -> Tensor:
    """One sequence ``[L, D]``."""
    eps = 1e-6
    if pe:
        x = x + positions(*x.shape)
    for layer in stack.layers:
        assert isinstance(layer, TransformerLayer)
        first, second, ffn = layer.attention_norm, layer.feed_forward_norm, layer.feed_forward

        def feed_forward(y: Tensor, ffn: Any = ffn) -> Tensor:
            hidden = y @ ffn.expand.weight.T + ffn.expand.bias
            hidden = hidden.clamp_min(0) if activation == "relu" else F.gelu(hidden)
            return hidden @ ffn.reduce.weight.T + ffn.reduce.bias

        if norm_first:
            x = x + attention(layer_norm(x, first, (-1,), eps), layer, causal)
            x = x + feed_forward(layer_norm(x, second, (-1,), eps))
        else:
            x = layer_norm(x + attention(x, layer, causal), first, (-1,), eps)
            x = layer_norm(x + feed_forward(x), second, (-1,), eps)
    return layer_norm(x, stack.norm, (-1,), eps)


def analyse(mixture: Tensor, model: Any) -> Tensor:
    """``[T]`` to ``[N, L]``, filter by filter at every half kernel."""
    filters = model.encoder.conv.weight[:, 0]
    size = filters.shape[-1]
    starts = range(0, len(mixture) - size + 1, size // 2)
    return torch.stack([(filters @ mixture[start : start + size]).clamp_min(0) for start in starts], dim=-1)


def synthesise(features: Tensor, model: Any, num_samples: int) -> Tensor:
    """``[N, L]`` to ``[T]``, frame by frame."""
    filters = model.decoder.conv.weight[:, 0]
    size = filters.shape[-1]
    wave = torch.zeros(num_samples + size, dtype=features.dtype)
    for index, frame in enumerate(features.T):
        wave[index * (size // 2) :][:size] += frame @ filters
    return wave[:num_samples]


def prelu(x: Tensor, module: Any) -> Tensor:
    """One slope."""
    return torch.where(x > 0, x, module.weight * x)
