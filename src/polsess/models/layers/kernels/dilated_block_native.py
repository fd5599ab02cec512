"""What lies between ConvTasNet's pointwise convolutions through ``dilated_block.cpp``, in inference."""

from __future__ import annotations

from ctypes import POINTER, Structure, byref, c_double, c_float, c_int64, c_void_p
from dataclasses import dataclass

import torch
from torch import Tensor

from polsess.models.layers.blocks import is_plain_inference
from polsess.models.layers.kernels import built_kernel, load_kernel
from polsess.models.layers.kernels.pointers import Floats, floats


class _DilatedBlock(Structure):
    _fields_ = [
        *[(name, c_int64) for name in ("channels", "length", "out_length", "taps", "dilation", "left")],
        *[(name, c_int64) for name in ("reflect", "is_bfloat16")],
        *[(name, c_void_p) for name in ("x", "y")],
        *[(name, Floats) for name in ("offsets", "weight", "bias", "tap_weight", "tap_bias")],
        *[(name, c_float) for name in ("slope", "next_slope")],
        *[(name, c_double) for name in ("eps", "next_eps")],
        ("found", c_void_p),
    ]


@dataclass(frozen=True)
class DilatedBlock:
    """The layers, of C channels and K taps."""

    offsets: Tensor | None
    """Added first, ``[C]``."""
    slope: float
    """Of the PReLU before the norm."""
    weight: Tensor
    """Of the norm, ``[C]``."""
    bias: Tensor
    """Likewise."""
    eps: float
    """Likewise."""
    taps: Tensor
    """Of the convolution, ``[C, 1, K]``."""
    tap_bias: Tensor | None
    """Likewise, ``[C]``."""
    dilation: int
    """Frames between taps."""
    left: int
    """Frames added before the first."""
    right: int
    """Frames added after the last; negative to leave out the last outputs."""
    reflect: bool
    """Whether these mirror the others; they are zeros otherwise."""
    next_slope: float
    """Of the PReLU behind the convolution."""
    next_eps: float
    """Of the norm that follows."""


def is_available(features: Tensor) -> bool:
    """Whether the kernel covers a network of these features, in float32 or by autocast, and can be built."""
    reduced = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") != torch.bfloat16
    return not reduced and is_plain_inference(features) and load_kernel("dilated_block") is not None


def run_block(features: Tensor, block: DilatedBlock) -> tuple[Tensor, Tensor, Tensor]:
    """Run it.

    Args:
        features: ``[B, C, L]``, float32 or bfloat16, contiguous.
        block: The layers.

    Returns:
        The outputs, of the type of the features, ``[B, C, L + left + right - dilation * (K - 1)]``; by item,
        the mean that the next norm takes off, and the factor that it multiplies with, ``[B]`` in float32.
    """
    items, channels, length = features.shape
    num_taps = block.taps.shape[-1]
    out_length = length + block.left + block.right - block.dilation * (num_taps - 1)
    output = features.new_empty(items, channels, out_length)
    found = torch.empty(items, 2, dtype=torch.float64)
    kept = [
        each if each is None else each.contiguous()
        for each in (block.offsets, block.weight, block.bias, block.taps, block.tap_bias)
    ]
    task = _DilatedBlock(
        *(channels, length, out_length, num_taps, block.dilation, block.left, block.reflect),
        *(features.dtype == torch.bfloat16, features.data_ptr(), output.data_ptr()),
        *(floats(each) for each in kept),
        *(block.slope, block.next_slope, block.eps, block.next_eps, found.data_ptr()),
    )
    run = built_kernel("dilated_block").run_dilated_block
    run.argtypes = [POINTER(_DilatedBlock), c_int64, c_int64]
    run.restype = None
    run(byref(task), items, torch.get_num_threads())
    mean, factor = found.float().unbind(1)
    return output, mean, factor
