"""A learned filterbank: a strided convolution in place of the STFT, its transpose in place of the inverse.

Luo and Mesgarani (2018), "TasNet", https://arxiv.org/abs/1711.00541 (gated); (2019), "Conv-TasNet",
https://arxiv.org/abs/1809.07454 (linear or rectified).

Under autocast they run in at least float32: they cost next to nothing, and what they round off meets the ear.

Shapes: B batch, C sources, N filters, T samples, L frames.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from polsess.models.layers.filters import FilterConv1d, FilterConvTranspose1d
from polsess.models.layers.prelu import PReLU
from polsess.models.layers.products import linear, pointwise_conv
from polsess.models.layers.stft import at_least_float32, without_autocast

EncoderActivation = Literal["linear", "relu", "leaky_relu", "prelu", "gelu", "silu", "sigmoid", "tanh"]
"""Activation of the features; the slope of ``prelu`` is trained."""
FilterbankActivation = EncoderActivation | Literal["gated"]
"""``gated`` is the rectified output times the sigmoid of a second filterbank."""

_ELEMENTWISE: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "gated": torch.relu,
    "leaky_relu": F.leaky_relu,
    "gelu": F.gelu,
    "silu": F.silu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
}


class Encoder(nn.Module):
    """Waveforms to features.

    Args:
        num_filters: N.
        kernel_size: Samples of a filter.
        stride: Samples between frames.
        activation: Activation after the convolution.
        bias: Whether each filter has an offset.
        padding: Zeros on both sides of the waveform.
        filters: Builds what makes the filters, which then have no bias; None for free filters.
    """

    def __init__(
        self,
        num_filters: int,
        kernel_size: int,
        stride: int,
        *,
        activation: FilterbankActivation = "linear",
        bias: bool = False,
        padding: int = 0,
        filters: Callable[[], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.activation = activation

        def convolution() -> nn.Conv1d | FilterConv1d:
            if filters is not None:
                return FilterConv1d(filters(), kernel_size, stride, padding)
            return nn.Conv1d(1, num_filters, kernel_size, stride, padding, bias=bias)

        self.conv = convolution()
        if activation == "prelu":
            self.prelu = PReLU()
        if activation == "gated":
            self.gate = convolution()

    def forward(self, mixture: Tensor) -> Tensor:
        """Analyse.

        Args:
            mixture: ``[B, T]``; samples after the last whole frame are left out.

        Returns:
            ``[B, N, L]``.
        """
        with without_autocast(mixture):
            return self._analyse(at_least_float32(mixture).unsqueeze(1))

    def _analyse(self, waveform: Tensor) -> Tensor:
        """``[B, 1, T]`` to ``[B, N, L]``."""
        features: Tensor = self.conv(waveform)
        if self.activation == "linear":
            return features
        if self.activation == "prelu":
            return self.prelu(features)
        features = _ELEMENTWISE[self.activation](features)
        return features * self.gate(waveform).sigmoid() if self.activation == "gated" else features


class Decoder(nn.Module):
    """Features to waveforms.

    Args:
        num_filters: N.
        kernel_size: Samples of a filter.
        stride: Samples between frames.
        bias: Whether the waveform has an offset.
        padding: Samples cut off on both sides.
        output_padding: Samples added at the end, when the padding cut off too many.
        filters: Builds what makes the filters, which then have no bias; None for free filters.
    """

    def __init__(
        self,
        num_filters: int,
        kernel_size: int,
        stride: int,
        *,
        bias: bool = False,
        padding: int = 0,
        output_padding: int = 0,
        filters: Callable[[], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.conv = (
            FilterConvTranspose1d(filters(), kernel_size, stride, padding, output_padding)
            if filters is not None
            else nn.ConvTranspose1d(num_filters, 1, kernel_size, stride, padding, output_padding, bias=bias)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Synthesise.

        Args:
            features: ``[B, C, N, L]``, the masked features of every source.

        Returns:
            ``[B, C, T']`` with T' = (L - 1) * stride + kernel_size - 2 * padding + output_padding.
        """
        waveforms = synthesise(features.flatten(0, 1), self.conv)
        return waveforms.squeeze(1).unflatten(0, features.shape[:2])


def synthesise(features: Tensor, conv: nn.ConvTranspose1d | FilterConvTranspose1d) -> Tensor:
    """Apply a transposed convolution to one channel; on a CPU nine times faster by a product and overlap-add.

    It runs in at least float32.

    Args:
        features: ``[B, N, L]``.
        conv: Whose filters and sizes are taken.

    Returns:
        ``[B, 1, T']``, T' as of ``Decoder``.
    """
    with without_autocast(features):
        features = at_least_float32(features)
        library = features.device.type != "cpu" or torch.compiler.is_compiling()
        waveforms: Tensor = conv(features) if library else _overlap_add(features, conv)
        return waveforms


def _overlap_add(features: Tensor, conv: nn.ConvTranspose1d | FilterConvTranspose1d) -> Tensor:
    """``[B, N, L]`` to ``[B, 1, T']``."""
    stride, kernel = conv.stride[0], conv.kernel_size[0]
    rows = features.mT
    if rows.is_contiguous():
        frames = linear(rows, conv.weight.squeeze(1).mT).mT  # [B, K, L]
    else:
        frames = pointwise_conv(features, conv.weight.permute(2, 0, 1))
    padding, extra = int(conv.padding[0]), conv.output_padding[0]
    length = (features.shape[-1] - 1) * stride + kernel - 2 * padding + extra
    waveforms = F.fold(frames, (1, length), (1, kernel), padding=(0, padding), stride=(1, stride))
    waveforms = waveforms.squeeze(2)
    return waveforms if conv.bias is None else waveforms + conv.bias
