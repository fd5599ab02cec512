"""The causal convolution through ``mamba.cpp``: one pass, forward and backward, float32 on a CPU."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, Structure, byref, c_int64

import torch
from torch import Tensor

from polsess.models.layers.kernels import load_kernel
from polsess.models.layers.kernels.pointers import Floats, Rows, dense, floats, rows

_MAX_TAPS = 16  # as kMaxTaps


class _Conv(Structure):
    _fields_ = [
        *[(name, c_int64) for name in ("length", "channels", "taps", "reverse", "silu")],
        *[("x", Rows), ("y", Rows)],
        *[("weight", Floats), ("bias", Floats)],
    ]


class _Gradients(Structure):
    _fields_ = [("y", Rows), ("x", Rows), ("weight", Floats), ("bias", Floats)]


def is_available(x: Tensor, weight: Tensor) -> bool:
    """Whether the kernel covers this convolution and can be built."""
    covered = x.device.type == "cpu" and x.dtype == torch.float32 and weight.shape[-1] <= _MAX_TAPS
    return covered and load_kernel("mamba") is not None


def forward(x: Tensor, weight: Tensor, bias: Tensor | None, silu: bool, reverse: bool) -> Tensor:
    """As ``causal_conv``."""
    x, taps = dense(x), weight[:, 0].mT.contiguous()
    bias = None if bias is None else bias.contiguous()
    y = torch.empty(x.shape)
    conv = _Conv(*x.shape[1:], len(taps), reverse, silu, rows(x), rows(y), floats(taps), floats(bias))
    _library().conv_forward(byref(conv), len(x), torch.get_num_threads())
    return y


def backward(
    x: Tensor, weight: Tensor, bias: Tensor | None, grad: Tensor, silu: bool, reverse: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the input, the taps and the bias."""
    x, grad, taps = dense(x), dense(grad), weight[:, 0].mT.contiguous()
    bias = None if bias is None else bias.contiguous()
    conv = _Conv(*x.shape[1:], len(taps), reverse, silu, rows(x), rows(None), floats(taps), floats(bias))
    grad_x = torch.empty(x.shape)
    parts = min(torch.get_num_threads(), len(x))
    of_taps, of_bias = torch.zeros(parts, *taps.shape), torch.zeros(parts, x.shape[-1])
    out = _Gradients(rows(grad), rows(grad_x), floats(of_taps), floats(of_bias))
    _library().conv_backward(byref(conv), byref(out), len(x), parts)
    return grad_x, of_taps.sum(0).mT.unsqueeze(1), of_bias.sum(0)


def _library() -> ctypes.CDLL:
    library = load_kernel("mamba")
    if library is None:
        raise RuntimeError("mamba.cpp is not built; ask is_available first.")
    library.conv_forward.argtypes = [POINTER(_Conv), c_int64, c_int64]
    library.conv_backward.argtypes = [POINTER(_Conv), POINTER(_Gradients), c_int64, c_int64]
    library.conv_forward.restype = library.conv_backward.restype = None
    return library
