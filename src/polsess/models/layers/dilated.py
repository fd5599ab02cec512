"""Dilated depth-wise convolution of channels-first features, as a few shifted products.

A library's kernel for dilated filters runs far below what memory allows, above all backwards; filters of a
few taps are sums of a few shifted and scaled copies, which pass the features at memory speed.

Shapes: B batch, C channels, L frames, K taps.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import handle_torch_function, has_torch_function

from polsess.models.layers.stream import Stream

_MAX_TAPS = 15
"""Beyond as many taps the library's kernel is no slower."""


class DilatedDepthwiseConv(nn.Module):
    """A filter per channel over time.

    Args:
        num_channels: C.
        kernel_size: K.
        dilation: Frames between taps.
        left: Zeros before the first frame.
        right: Zeros after the last frame; negative to leave out the last outputs.
        reflect: Mirror the frames at the borders instead of zeros.
        bias: Whether each channel has an offset.
    """

    def __init__(
        self,
        num_channels: int,
        kernel_size: int,
        *,
        dilation: int,
        left: int,
        right: int,
        reflect: bool = False,
        bias: bool = True,
    ) -> None:
        super().__init__()
        like = nn.Conv1d(num_channels, num_channels, kernel_size, groups=num_channels, bias=bias)
        self.weight, self.bias = like.weight, like.bias  # PyTorch's initial values
        self.dilation, self.left, self.right, self.reflect = dilation, left, right, reflect

    def forward(self, features: Tensor, stream: Stream | None = None) -> Tensor:
        """Convolve.

        Args:
            features: ``[B, C, L]``.
            stream: Holds the ``left`` frames before these.

        Returns:
            ``[B, C, L + left + right - dilation * (K - 1)]``.
        """
        left, right = self.left, self.right
        if stream is not None:
            features, left = stream.join(self, features, left), 0
        if self.reflect:
            features, left, right = F.pad(features, (left, right), "reflect"), 0, 0
        return dilated_depthwise_conv(features, self.weight, self.bias, self.dilation, left, right)

    def extra_repr(self) -> str:
        """Sizes, for ``print``."""
        taps = f"kernel_size={self.weight.shape[-1]}, dilation={self.dilation}"
        return f"{len(self.weight)}, {taps}, borders=({self.left}, {self.right}), reflect={self.reflect}"


def dilated_depthwise_conv(
    features: Tensor, weight: Tensor, bias: Tensor | None, dilation: int, left: int, right: int
) -> Tensor:
    """Convolve each channel with its own filter between borders of zeros.

    Args:
        features: ``[B, C, L]``.
        weight: ``[C, 1, K]``.
        bias: ``[C]`` or None.
        dilation: Frames between taps.
        left: Zeros before the first frame.
        right: Zeros after the last frame; negative to leave out the last outputs.

    Returns:
        ``[B, C, L + left + right - dilation * (K - 1)]``.
    """
    if not torch.compiler.is_compiling() and has_torch_function((features, weight)):
        given = (features, weight, bias, dilation, left, right)
        result: Tensor = handle_torch_function(dilated_depthwise_conv, (features, weight), *given)
        return result
    few_taps = weight.shape[-1] <= _MAX_TAPS and features.device.type == "cpu"
    reduced = torch.is_autocast_enabled("cpu") and (torch.is_grad_enabled() or features.dtype != weight.dtype)
    if few_taps and not torch.compiler.is_compiling() and not reduced:
        output: Tensor = _TapConv.apply(features, weight, bias, dilation, left, right)  # type: ignore[no-untyped-call]
        return output
    if left != right or left < 0:
        features, left = F.pad(features, (left, right)), 0
    return F.conv1d(features, weight, bias, 1, left, dilation, len(weight))


class _TapConv(torch.autograd.Function):
    """Saves the input alone, where a graph of shifted products would save a node per tap."""

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weight: Tensor, bias: Tensor | None, dilation: int, left: int, right: int
    ) -> Tensor:
        ctx.save_for_backward(features, weight)
        ctx.dilation, ctx.left = dilation, left
        span = dilation * (weight.shape[-1] - 1)
        length = features.shape[-1] + left + right - span
        return _shifted_sum(features, weight.squeeze(1), bias, dilation, left, length)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        features, weight = ctx.saved_tensors
        gradient, dilation, left = gradients[0], ctx.dilation, ctx.left
        to_features = to_weight = to_bias = None
        if ctx.needs_input_grad[0]:
            span, length = dilation * (weight.shape[-1] - 1), features.shape[-1]
            to_features = _shifted_sum(
                gradient, weight.squeeze(1).flip(-1), None, dilation, span - left, length
            )
        if ctx.needs_input_grad[1]:
            to_weight = _correlations(features, gradient, weight, dilation, left)
        if ctx.needs_input_grad[2]:
            to_bias = gradient.sum((0, 2))
        return to_features, to_weight, to_bias, None, None, None


def _overlap(offset: int, length: int, available: int) -> tuple[slice, slice]:
    """Where outputs and the frames ``offset`` later both exist."""
    start, stop = max(0, -offset), min(length, available - offset)
    stop = max(start, stop)
    return slice(start, stop), slice(start + offset, stop + offset)


def _shifted_sum(
    features: Tensor, taps: Tensor, bias: Tensor | None, dilation: int, left: int, length: int
) -> Tensor:
    """``output[t] = bias + sum_k taps[:, k] * features[t + k * dilation - left]``, zeros outside."""
    available = features.shape[-1]
    offsets = [index * dilation - left for index in range(taps.shape[-1])]
    offset_of_bias = features.new_zeros(()) if bias is None else bias.unsqueeze(1)
    whole = [k for k, offset in enumerate(offsets) if offset >= 0 and length + offset <= available]
    if whole:  # a tap that reaches every output writes it, instead of a pass of zeros
        first = features[..., offsets[whole[0]] : offsets[whole[0]] + length]
        output = torch.addcmul(offset_of_bias, first, taps[:, whole[0], None])
    else:
        output = offset_of_bias.expand(*features.shape[:-1], length).clone()
    for k, offset in enumerate(offsets):
        if k not in whole[:1]:
            outputs, frames = _overlap(offset, length, available)
            output[..., outputs].addcmul_(features[..., frames], taps[:, k, None])
    return output


def _correlations(features: Tensor, gradient: Tensor, weight: Tensor, dilation: int, left: int) -> Tensor:
    """The gradient of the taps, ``[C, 1, K]``."""
    products = []
    for k in range(weight.shape[-1]):
        outputs, frames = _overlap(k * dilation - left, gradient.shape[-1], features.shape[-1])
        products.append(torch.einsum("bcl,bcl->bc", gradient[..., outputs], features[..., frames]).sum(0))
    return torch.stack(products, -1).unsqueeze(1)
