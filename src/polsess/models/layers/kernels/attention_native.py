"""Self-attention of small heads on a CPU whose scores stay in the cache, in inference.

In float32 through ``attention.cpp``; in bfloat16 through ``attention_tiles.cpp``, where the processor
multiplies tiles of it (AMX).
"""

from __future__ import annotations

from ctypes import POINTER, Structure, byref, c_int64, c_void_p

import torch
from torch import Tensor

from polsess.models.layers.blocks import is_plain_inference
from polsess.models.layers.kernels import built_kernel, load_kernel, multiplies_in_tiles

_MARGIN = 64
"""Columns that the kernel reads beyond the table: up to two kPair of the widest registers."""


class _Attention(Structure):
    _fields_ = [
        *[(name, c_int64) for name in ("length", "heads", "size")],
        *[(name, c_int64) for name in ("item_stride", "step_stride", "head_stride")],
        *[(name, c_void_p) for name in ("query", "key", "value", "table")],
        ("table_columns", c_int64),
        ("output", c_void_p),
    ]


def is_available(heads: Tensor) -> bool:
    """Whether a kernel covers this attention and can be built; see above."""
    if heads.dtype == torch.bfloat16:
        return is_plain_inference(heads, torch.bfloat16) and multiplies_in_tiles("attention_tiles")
    return is_plain_inference(heads) and load_kernel("attention") is not None


def attend(heads: Tensor, distances: Tensor | None = None) -> Tensor:
    """Attend within every head.

    Args:
        heads: Queries, keys and values, ``[B, L, 3, H, D]``, in float32 or bfloat16.
        distances: Embeddings ``[2 M, D]`` of the distances -M to M - 1 from key to query, farther ones as the
            farthest, that a query is also multiplied with; None for none.

    Returns:
        ``[B, L, H * D]``.
    """
    heads = heads if heads.stride(-1) == 1 else heads.contiguous()
    items, length, _, count, size = heads.shape
    item_stride, step_stride, _, head_stride, _ = heads.stride()
    parts = heads.unbind(2)
    in_tiles = heads.dtype == torch.bfloat16
    table = None if distances is None else _table(distances.to(heads.dtype), length)
    if table is not None and not in_tiles:
        table = table.mT.contiguous()
    output = heads.new_empty(items, length, count * size)
    task = _Attention(
        *(length, count, size, item_stride, step_stride, head_stride),
        *(part.data_ptr() for part in parts),
        *(None if table is None else table.data_ptr(), 2 * length - 1 + _MARGIN),
        output.data_ptr(),
    )
    run = built_kernel("attention_tiles").attend_in_tiles if in_tiles else built_kernel("attention").attend
    run.argtypes = [POINTER(_Attention), c_int64, c_int64]
    run.restype = None
    run(byref(task), items, torch.get_num_threads())
    return output


def _table(distances: Tensor, length: int) -> Tensor:
    """Those of the distances from L - 1 down to 1 - L and ``_MARGIN`` more, ``[columns, D]``."""
    reach = len(distances) // 2
    steps = torch.arange(length - 1, -length - _MARGIN, -1)
    return distances[steps.clamp(-reach, reach - 1) + reach]
