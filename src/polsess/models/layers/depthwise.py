"""Depth-wise convolution over time of features that are kept last in memory.

A library's one-dimensional depth-wise kernel wants channels first and runs at a tenth of what memory allows;
the same sum with channels last vectorises over channels and needs no transposition around linear layers.

Shapes: B batch, L frames, C channels, K taps.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import handle_torch_function, has_torch_function

from polsess.models.layers.blocks import runs_in_blocks
from polsess.models.layers.kernels import conv_native

_BLOCK_FRAMES = 64
"""Frames that the tap loops handle at once, so that what they touch stays in the cache."""


class DepthwiseConv(nn.Module):
    """A filter per channel over time, zero-padded to keep the length; its centre tap is at the present.

    Args:
        num_channels: C.
        kernel_size: K, odd.
        dilation: Frames between taps.
        bias: Whether each channel has an offset.
        residual: Whether the input is added to the output.

    Raises:
        ValueError: If the kernel size is even.
    """

    def __init__(
        self,
        num_channels: int,
        kernel_size: int,
        *,
        dilation: int = 1,
        bias: bool = False,
        residual: bool = False,
    ) -> None:
        super().__init__()
        if kernel_size % 2 == 0:
            raise ValueError(f"DepthwiseConv: kernel_size must be odd, got {kernel_size}.")
        self.dilation = dilation
        self.residual = residual
        like = nn.Conv1d(num_channels, num_channels, kernel_size, groups=num_channels, bias=bias)
        self.weight, self.bias = like.weight, like.bias  # PyTorch's initial values

    def forward(self, frames: Tensor) -> Tensor:
        """Convolve.

        Args:
            frames: ``[B, L, C]``.

        Returns:
            ``[B, L, C]``.
        """
        weight = self.weight
        if self.residual:  # the present frame once more: a one at the centre tap
            half = weight.shape[-1] // 2
            weight = weight + F.pad(weight.new_ones(1), (half, half))
        return depthwise_conv(frames, weight, self.bias, self.dilation)

    def extra_repr(self) -> str:
        """Sizes, for ``print``."""
        return f"{len(self.weight)}, kernel_size={self.weight.shape[-1]}, dilation={self.dilation}"


def depthwise_conv(frames: Tensor, weight: Tensor, bias: Tensor | None = None, dilation: int = 1) -> Tensor:
    """Convolve each channel with its own filter, keeping the length.

    Args:
        frames: ``[B, L, C]``.
        weight: ``[C, 1, K]`` with K odd.
        bias: ``[C]``.
        dilation: Frames between taps.

    Returns:
        ``[B, L, C]``: ``output[l] = bias + sum_k weight[k] * frames[l + (k - K // 2) * dilation]``.
    """
    if not torch.compiler.is_compiling() and has_torch_function((frames, weight)):
        given = (frames, weight, bias, dilation)
        result: Tensor = handle_torch_function(depthwise_conv, (frames, weight), *given)
        return result
    if frames.device.type != "cpu" or torch.compiler.is_compiling():
        padding = weight.shape[-1] // 2 * dilation
        return F.conv1d(frames.mT, weight, bias, 1, padding, dilation, len(weight)).mT
    if torch.is_autocast_enabled("cpu"):
        frames = frames.to(torch.get_autocast_dtype("cpu"))
    weight = weight.to(frames.dtype)
    bias = None if bias is None else bias.to(frames.dtype)
    if dilation == 1:
        return _convolve(frames, weight, bias)
    # Every dilation-th frame is a sequence of its own: as channels side by side they need no dilation.
    batch, length, channels = frames.shape
    folded = F.pad(frames, (0, 0, 0, -length % dilation)).view(batch, -1, dilation * channels)
    offsets = None if bias is None else bias.repeat(dilation)
    output = _convolve(folded, weight.repeat(dilation, 1, 1), offsets)
    return output.view(batch, -1, channels)[:, :length]


def gated_conv(frames: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve as ``depthwise_conv``; then the second half of the channels gates the first.

    Args:
        frames: ``[B, L, 2 C]``.
        weight: ``[2 C, 1, K]`` with K odd.
        bias: ``[2 C]``.

    Returns:
        ``[B, L, C]``.
    """
    alone = runs_in_blocks() and not has_torch_function((frames, weight))
    if alone and conv_native.is_available(frames, weight):
        return conv_native.forward(frames, weight, bias, "gated", ahead=weight.shape[-1] // 2)
    return F.glu(depthwise_conv(frames, weight, bias))


def _convolve(frames: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    output: Tensor = _DepthwiseConv.apply(frames, weight, bias)  # type: ignore[no-untyped-call]
    return output


class _DepthwiseConv(torch.autograd.Function):
    """Saves the input alone, where a graph of taps would save a node and add up a gradient per tap."""

    @staticmethod
    def forward(ctx: Any, frames: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(frames, weight)
        return _channels_last_conv(frames, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        frames, weight = ctx.saved_tensors
        gradient = gradients[0]
        to_frames = _channels_last_conv(gradient, weight.flip(-1), None) if ctx.needs_input_grad[0] else None
        to_weight = _weight_gradient(frames, gradient, weight) if ctx.needs_input_grad[1] else None
        to_bias = gradient.sum((0, 1)) if ctx.needs_input_grad[2] else None
        return to_frames, to_weight, to_bias


def _channels_last_conv(frames: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if frames.dtype == torch.float64 or not torch.backends.mkldnn.is_available():
        # oneDNN, which has a kernel for this layout, has it not in double.
        output = _tap_loop(frames, weight)
        return output if bias is None else output.add_(bias)
    image = frames.contiguous().unsqueeze(1).permute(0, 3, 1, 2)  # [B, C, 1, L], channels last
    padding = (0, weight.shape[-1] // 2)
    output = F.conv2d(image, weight.unsqueeze(2), bias, 1, padding, 1, len(weight))
    return output.permute(0, 2, 3, 1).squeeze(1)


def _tap_loop(frames: Tensor, weight: Tensor) -> Tensor:
    """The convolution as one multiply-add of whole blocks of frames per tap."""
    taps = weight.squeeze(1).mT.contiguous()  # [K, C]
    half = len(taps) // 2
    padded = F.pad(frames, (0, 0, half, half))
    output = torch.empty_like(frames)
    for start in range(0, frames.shape[1], _BLOCK_FRAMES):
        block = output[:, start : start + _BLOCK_FRAMES]
        size = block.shape[1]
        torch.mul(padded[:, start : start + size], taps[0], out=block)
        for index in range(1, len(taps)):
            block.addcmul_(padded[:, start + index : start + index + size], taps[index])
    return output


def _weight_gradient(frames: Tensor, gradient: Tensor, weight: Tensor) -> Tensor:
    """``[C, 1, K]``: per tap the correlation of the gradient with the shifted input."""
    num_taps = weight.shape[-1]
    half = num_taps // 2
    padded = F.pad(frames, (0, 0, half, half))
    size = min(_BLOCK_FRAMES, frames.shape[1])
    total = frames.new_zeros(num_taps, len(frames), size, frames.shape[2])
    for start in range(0, frames.shape[1], size):
        block = gradient[:, start : start + size]
        for index in range(num_taps):
            part = padded[:, start + index : start + index + block.shape[1]]
            total[index, :, : block.shape[1]].addcmul_(block, part)
    return total.sum((1, 2)).mT.unsqueeze(1).contiguous()
