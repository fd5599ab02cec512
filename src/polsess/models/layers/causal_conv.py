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
from torch.overrides import handle_torch_function, has_torch_function

from polsess.models.layers.kernels import conv_native

_BLOCK_ELEMENTS = (
    1 << 17
)  # outputs worked on at once on a CPU, so that the passes of the taps meet them in the cache


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
    if has_torch_function((x, weight)):  # modes that count or trace see one function, whatever runs it
        result: Tensor = handle_torch_function(
            causal_conv, (x, weight), x, weight, bias, silu=silu, reverse=reverse
        )
        return result
    return _CausalConv.apply(x, weight, bias, silu, reverse)  # type: ignore[no-untyped-call]


class _CausalConv(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, silu: bool, reverse: bool
    ) -> Tensor:
        ctx.save_for_backward(x, weight, bias)
        ctx.options = (silu, reverse)
        if conv_native.is_available(x, weight):
            return conv_native.forward(x, weight, bias, "silu" if silu else None, reverse=reverse)
        sources = _fast_type(x)
        taps, offset = _in_type_of(sources, weight, bias)
        output = torch.empty_like(sources, memory_format=torch.contiguous_format)
        for part, source in zip(_blocks(output), _blocks(sources), strict=True):
            _convolve(source, taps, offset, reverse, part)
            if silu:
                F.silu(part, inplace=True)
        return output.to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias = ctx.saved_tensors
        silu, reverse = ctx.options
        kind, x = x.dtype, _fast_type(x)
        taps, offset = _in_type_of(x, weight, bias)
        grad = grad.to(x.dtype)
        if x.dtype == torch.float32 and conv_native.is_available(x, taps):
            grad_x, grad_taps, grad_bias = conv_native.backward(x, taps, offset, grad, silu, reverse)
        else:
            grad_x, grad_taps, grad_bias = _backward(x, taps, offset, grad, silu, reverse)
        to_bias = None if bias is None else grad_bias.to(bias.dtype)
        return grad_x.to(kind), grad_taps.to(weight.dtype), to_bias, None, None


def _backward(
    x: Tensor, taps: Tensor, bias: Tensor | None, grad: Tensor, silu: bool, reverse: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the input, the taps and the bias."""
    if silu:
        sums = _convolve(x, taps, bias, reverse, torch.empty_like(grad))
        share = sums.sigmoid()
        grad = grad * share * (1 + sums * (1 - share))
    lags = range(taps.shape[-1] - 1, -1, -1)  # of the taps, in their order
    pairs = [_overlap(grad, x, lag, reverse) for lag in lags]
    grad_taps = torch.stack([(after * before).sum((0, 1)) for after, before in pairs], dim=-1)
    grad_x = _convolve(grad, taps, None, not reverse, torch.empty_like(grad))
    return grad_x, grad_taps.unsqueeze(1), grad.sum((0, 1))


def _fast_type(x: Tensor) -> Tensor:
    """Sequences as a CPU adds them up: in bfloat16 it takes five times as long as in float32."""
    return x.float() if x.device.type == "cpu" and x.dtype == torch.bfloat16 else x


def _in_type_of(x: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
    return weight.to(x.dtype), None if bias is None else bias.to(x.dtype)


def _blocks(sequences: Tensor) -> tuple[Tensor, ...]:
    """Views of a few sequences each on a CPU, of all elsewhere."""
    on_cpu = sequences.device.type == "cpu"
    size = max(1, _BLOCK_ELEMENTS // sequences[0].numel()) if on_cpu else len(sequences)
    return sequences.split(size)


def _overlap(output: Tensor, x: Tensor, lag: int, reverse: bool) -> tuple[Tensor, Tensor]:
    """Outputs, and the inputs ``lag`` steps before them (behind them with ``reverse``)."""
    late, early = slice(lag, None), slice(0, max(0, x.shape[1] - lag))
    return (output[:, early], x[:, late]) if reverse else (output[:, late], x[:, early])


def _convolve(x: Tensor, taps: Tensor, bias: Tensor | None, reverse: bool, output: Tensor) -> Tensor:
    """Write the sums over the taps to ``output``."""
    torch.mul(x, taps[:, 0, -1], out=output)
    if bias is not None:
        output.add_(bias)
    for lag in range(1, min(taps.shape[-1], x.shape[1])):
        target, source = _overlap(output, x, lag, reverse)
        target.addcmul_(source, taps[:, 0, -1 - lag])
    return output
