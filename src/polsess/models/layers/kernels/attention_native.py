"""Self-attention of small heads through ``attention.cpp``: scores stay in the cache. Inference in float32."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, Structure, byref, c_int64

import torch
from torch import Tensor

from polsess.models.layers.blocks import is_plain_inference
from polsess.models.layers.kernels import built_kernel, load_kernel
from polsess.models.layers.kernels.pointers import Floats, floats

_MARGIN = 64
"""Columns that the kernel reads beyond the table: up to two kPair of the widest registers."""


class _Attention(Structure):
    _fields_ = [
        *[(name, c_int64) for name in ("length", "heads", "size")],
        *[(name, c_int64) for name in ("item_stride", "step_stride", "head_stride")],
        *[(name, Floats) for name in ("query", "key", "value", "table")],
        ("table_columns", c_int64),
        ("output", Floats),
    ]


def is_available(heads: Tensor) -> bool:
    """Whether the kernel covers this attention and can be built: inference on a CPU in float32."""
    return is_plain_inference(heads) and load_kernel("attention") is not None


def attend(heads: Tensor, distances: Tensor | None = None) -> Tensor:
    """Attend within every head.

    Args:
        heads: Queries, keys and values, ``[B, L, 3, H, D]``.
        distances: Embeddings ``[2 M, D]`` of the distances -M to M - 1 from key to query, farther ones as the
            farthest, that a query is also multiplied with; None for none.

    Returns:
        ``[B, L, H * D]``.
    """
    heads = heads if heads.stride(-1) == 1 else heads.contiguous()
    items, length, _, count, size = heads.shape
    item_stride, step_stride, _, head_stride, _ = heads.stride()
    parts = heads.unbind(2)
    table = None if distances is None else _table(distances, length)
    output = heads.new_empty(items, length, count * size)
    task = _Attention(
        *(length, count, size, item_stride, step_stride, head_stride),
        *(floats(part) for part in parts),
        *(floats(table), 0 if table is None else table.shape[1], floats(output)),
    )
    _library().attend(byref(task), items, torch.get_num_threads())
    return output


def _table(distances: Tensor, length: int) -> Tensor:
    """Columns of the distances from L - 1 down to 1 - L."""
    reach = len(distances) // 2
    steps = torch.arange(length - 1, -length - _MARGIN, -1)
    return distances[steps.clamp(-reach, reach - 1) + reach].mT.contiguous()


def _library() -> ctypes.CDLL:
    library = built_kernel("attention")
    library.attend.argtypes = [POINTER(_Attention), c_int64, c_int64]
    library.attend.restype = None
    return library
