"""Tensors as the pointers and strides that the native kernels take."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, Structure, c_float, c_int64
from typing import TYPE_CHECKING

from torch import Tensor

Floats = POINTER(c_float)
if TYPE_CHECKING:
    FloatPointer = ctypes._Pointer[c_float]


class Rows(Structure):
    """A ``[rows, length, width]`` tensor whose last dimension is contiguous."""

    _fields_ = [("data", Floats), ("row_stride", c_int64), ("step_stride", c_int64)]


def dense(sequence: Tensor) -> Tensor:
    """The tensor itself if its last dimension is contiguous, as of slices of wider rows; else a copy."""
    return sequence if sequence.stride(-1) == 1 else sequence.contiguous()


def rows(sequence: Tensor | None) -> Rows:
    """Pointer to a sequence; null for None. The caller keeps the tensor alive."""
    if sequence is None:
        return Rows(None, 0, 0)
    return Rows(floats(sequence), sequence.stride(0), sequence.stride(1))


def floats(tensor: Tensor | None) -> FloatPointer | None:
    """Pointer to a float32 tensor; None for None. The caller keeps the tensor alive."""
    return None if tensor is None else ctypes.cast(tensor.data_ptr(), Floats)
