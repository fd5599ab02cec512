"""Tensors as the pointers and strides that the native kernels take."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, Structure, c_float, c_int64, c_void_p
from typing import TYPE_CHECKING

import torch
from torch import Tensor

Floats = POINTER(c_float)
if TYPE_CHECKING:
    FloatPointer = ctypes._Pointer[c_float]


class Rows(Structure):
    """A ``[rows, length, width]`` tensor, float32 or bfloat16, whose last dimension is contiguous."""

    _fields_ = [
        ("data", c_void_p),
        *[(name, c_int64) for name in ("row_stride", "step_stride", "is_bfloat16")],
    ]


def dense(sequence: Tensor) -> Tensor:
    """The tensor itself if its last dimension is contiguous, as of slices of wider rows; else a copy."""
    return sequence if sequence.stride(-1) == 1 else sequence.contiguous()


def rows(sequence: Tensor | None) -> Rows:
    """Pointer to a sequence; null for None. The caller keeps the tensor alive."""
    if sequence is None:
        return Rows(None, 0, 0, 0)
    is_bfloat16 = sequence.dtype == torch.bfloat16
    return Rows(sequence.data_ptr(), sequence.stride(0), sequence.stride(1), is_bfloat16)


def floats(tensor: Tensor | None) -> FloatPointer | None:
    """Pointer to a float32 tensor; None for None. The caller keeps the tensor alive."""
    return None if tensor is None else ctypes.cast(tensor.data_ptr(), Floats)
