"""A causal depth-wise convolution with channels last, and SiLU behind it.

Source: the short convolution of Mamba, Gu and Dao (2023), https://arxiv.org/abs/2312.00752, figure 3. A few
taps are a few multiplications of shifted views, which beats a convolution library at one channel per filter.

Shapes: B batch, L length, D channels, K taps.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


def causal_conv(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, silu: bool = True, reverse: bool = False
) -> Tensor:
    """Convolve every channel with a filter of its own over the present and the past.

    Only the inputs are kept for the backward pass, which repeats the cheap products.

    Args:
        x: ``[B, L, D]``.
        weight: ``[D, 1, K]`` as in ``nn.Conv1d``; the last tap meets the present.
        bias: ``[D]``.
        silu: Whether a SiLU follows.
        reverse: Look into the future instead of the past, as if the sequence were flipped.

    Returns:
        ``[B, L, D]``.
    """
    return _CausalConv.apply(x, weight, bias, silu, reverse)  # type: ignore[no-untyped-call]


class _CausalConv(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, silu: bool, reverse: bool
    ) -> Tensor:
        ctx.save_for_backward(x, weight, bias)
        ctx.options = (silu, reverse)
        taps = weight.to(x.dtype)
        summed = _convolve(x, taps, None if bias is None else bias.to(x.dtype), reverse)
        return F.silu(summed, inplace=True) if silu else summed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias = ctx.saved_tensors
        silu, reverse = ctx.options
        taps = weight.to(x.dtype)
        grad = grad.to(x.dtype)
        if silu:
            summed = _convolve(x, taps, None if bias is None else bias.to(x.dtype), reverse)
            share = summed.sigmoid()
            grad = grad * share * (1 + summed * (1 - share))
        lags = range(weight.shape[-1] - 1, -1, -1)  # of the taps, in their order
        pairs = [_overlap(grad, x, lag, reverse) for lag in lags]
        grad_taps = torch.stack([(after * before).sum((0, 1)) for after, before in pairs], dim=-1)
        return (
            _convolve(grad, taps, None, not reverse),
            grad_taps.unsqueeze(1).to(weight.dtype),
            None if bias is None else grad.sum((0, 1)).to(bias.dtype),
            None,
            None,
        )


def _overlap(output: Tensor, x: Tensor, lag: int, reverse: bool) -> tuple[Tensor, Tensor]:
    """Outputs, and the inputs ``lag`` steps before them (behind them with ``reverse``)."""
    late, early = slice(lag, None), slice(0, max(0, x.shape[1] - lag))
    return (output[:, early], x[:, late]) if reverse else (output[:, late], x[:, early])


def _convolve(x: Tensor, taps: Tensor, bias: Tensor | None, reverse: bool) -> Tensor:
    present = taps[:, 0, -1]
    total = x * present if bias is None else torch.addcmul(bias, x, present)
    for lag in range(1, min(taps.shape[-1], x.shape[1])):
        target, source = _overlap(total, x, lag, reverse)
        target.addcmul_(source, taps[:, 0, -1 - lag])
    return total
