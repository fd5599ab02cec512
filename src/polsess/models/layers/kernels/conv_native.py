"""Depth-wise convolutions of few taps through ``mamba.cpp``: one pass over memory on a CPU.

Forward of float32 or bfloat16, backward of float32.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, Structure, byref, c_int64
from typing import Literal

import torch
from torch import Tensor

from polsess.models.layers.kernels import built_kernel, load_kernel
from polsess.models.layers.kernels.pointers import Floats, Rows, dense, floats, rows

_MAX_TAPS = 16  # as kMaxTaps
_ACTIVATIONS = {None: 0, "silu": 1, "gated": 2}  # as kSilu, kGated
Activation = Literal["silu", "gated"]
"""``gated``: the second half of the channels gates the first, as ``torch.nn.functional.glu``."""


class _Conv(Structure):
    _fields_ = [
        *[(name, c_int64) for name in ("length", "channels", "taps", "reverse", "activation", "ahead")],
        *[("x", Rows), ("y", Rows)],
        *[("weight", Floats), ("bias", Floats)],
    ]


class _Gradients(Structure):
    _fields_ = [("y", Rows), ("x", Rows), ("weight", Floats), ("bias", Floats)]


def is_available(x: Tensor, weight: Tensor) -> bool:
    """Whether the kernel covers this convolution and can be built, for float32 backward too."""
    known = x.dtype in (torch.float32, torch.bfloat16)
    covered = x.device.type == "cpu" and known and weight.shape[-1] <= _MAX_TAPS
    return covered and load_kernel("mamba") is not None


def forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    activation: Activation | None = None,
    *,
    reverse: bool = False,
    ahead: int = 0,
) -> Tensor:
    """Convolve every channel with its filter, beyond the borders zeros.

    Args:
        x: ``[B, L, D]``.
        weight: ``[D, 1, K]``.
        bias: ``[D]``.
        activation: What follows.
        reverse: Look into the future instead of the past.
        ahead: Positions by which the last tap lies ahead of the present.

    Returns:
        ``[B, L, D]``, gated ``[B, L, D / 2]``.
    """
    x, taps = dense(x), weight[:, 0].mT.float().contiguous()
    bias = None if bias is None else bias.float().contiguous()
    (batch, length, channels), kind = x.shape, _ACTIVATIONS[activation]
    y = torch.empty(batch, length, channels // 2 if activation == "gated" else channels, dtype=x.dtype)
    conv = _Conv(
        *(length, channels, len(taps), reverse, kind, ahead), rows(x), rows(y), floats(taps), floats(bias)
    )
    _library().conv_forward(byref(conv), len(x), torch.get_num_threads())
    return y


def backward(
    x: Tensor, weight: Tensor, bias: Tensor | None, grad: Tensor, silu: bool, reverse: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the input, the taps and the bias."""
    x, grad, taps = dense(x), dense(grad), weight[:, 0].mT.contiguous()
    bias = None if bias is None else bias.contiguous()
    conv = _Conv(*x.shape[1:], len(taps), reverse, silu, 0, rows(x), rows(None), floats(taps), floats(bias))
    grad_x = torch.empty(x.shape)
    parts = min(torch.get_num_threads(), len(x))
    of_taps, of_bias = torch.zeros(parts, *taps.shape), torch.zeros(parts, x.shape[-1])
    out = _Gradients(rows(grad), rows(grad_x), floats(of_taps), floats(of_bias))
    _library().conv_backward(byref(conv), byref(out), len(x), parts)
    return grad_x, of_taps.sum(0).mT.unsqueeze(1), of_bias.sum(0)


def _library() -> ctypes.CDLL:
    library = built_kernel("mamba")
    library.conv_forward.argtypes = [POINTER(_Conv), c_int64, c_int64]
    library.conv_backward.argtypes = [POINTER(_Conv), POINTER(_Gradients), c_int64, c_int64]
    library.conv_forward.restype = library.conv_backward.restype = None
    return library
