"""Self-attention of small heads on a CPU whose scores stay in the cache.

In float32 through ``attention.cpp``, in inference; in bfloat16 through ``attention_tiles.cpp``, where the
processor multiplies tiles of it (AMX), with gradients too.
"""

from __future__ import annotations

from ctypes import POINTER, Structure, byref, c_int64, c_void_p
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from polsess.models.layers.blocks import is_plain, is_plain_inference
from polsess.models.layers.kernels import built_kernel, load_kernel, multiplies_in_tiles

_MARGIN = 64
"""Columns that the kernel reads beyond the table: up to two kPair of the widest registers."""


class _Attention(Structure):
    _fields_ = [
        *[(name, c_int64) for name in ("length", "heads", "size")],
        *[(name, c_int64) for name in ("item_stride", "step_stride", "head_stride")],
        *[(name, c_void_p) for name in ("query", "key", "value", "table")],
        ("table_columns", c_int64),
        *[(name, c_void_p) for name in ("output", "totals")],
    ]


class _Gradients(Structure):
    _fields_ = [
        ("heads", _Attention),
        *[(name, c_void_p) for name in ("output", "query", "key", "value")],
    ]


def is_available(heads: Tensor) -> bool:
    """Whether a kernel covers this attention and can be built; see above."""
    if heads.dtype == torch.bfloat16:
        return is_plain_inference(heads, torch.bfloat16) and multiplies_in_tiles("attention_tiles")
    return is_plain_inference(heads) and load_kernel("attention") is not None


def has_gradients(heads: Tensor) -> bool:
    """Whether ``attend`` covers heads of bfloat16, without distances, where gradients are recorded."""
    reduced = heads.dtype == torch.bfloat16 and is_plain(heads, torch.bfloat16)
    return torch.is_grad_enabled() and reduced and multiplies_in_tiles("attention_tiles")


def attend(heads: Tensor, distances: Tensor | None = None) -> Tensor:
    """Attend within every head.

    Args:
        heads: Queries, keys and values, ``[B, L, 3, H, D]``, in float32 or bfloat16.
        distances: In inference, embeddings ``[2 M, D]`` of the distances -M to M - 1 from key to query,
            farther ones as the farthest, that a query is also multiplied with; None for none.

    Returns:
        ``[B, L, H * D]``.
    """
    if torch.is_grad_enabled() and heads.requires_grad:
        mixed: Tensor = _WithGradients.apply(heads)  # type: ignore[no-untyped-call]
        return mixed
    heads = _dense(heads)
    output = heads.new_empty(*heads.shape[:2], heads.shape[3:].numel())
    in_tiles = heads.dtype == torch.bfloat16
    table = None if distances is None else _table(distances.to(heads.dtype), heads.shape[1])
    if table is not None and not in_tiles:
        table = table.mT.contiguous()
    run = built_kernel("attention_tiles").attend_in_tiles if in_tiles else built_kernel("attention").attend
    _run(run, _task(heads, output, table), len(heads))
    return output


class _WithGradients(torch.autograd.Function):
    """Arguments and results of ``attend``."""

    @staticmethod
    def forward(ctx: Any, heads: Tensor) -> Tensor:
        heads = _dense(heads)
        items, length, _, count, size = heads.shape
        output = heads.new_empty(items, length, count * size)
        totals = heads.new_empty(items, count, length, dtype=torch.float32)
        _run(built_kernel("attention_tiles").attend_in_tiles, _task(heads, output, totals=totals), items)
        ctx.save_for_backward(heads, output, totals)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        heads, output, totals = ctx.saved_tensors
        gradient, found = (
            gradients[0].contiguous(),
            torch.empty_strided(heads.shape, heads.stride(), dtype=heads.dtype),
        )
        task = _Gradients(
            _task(heads, output, totals=totals),
            *(gradient.data_ptr(), *(part.data_ptr() for part in found.unbind(2))),
        )
        _run(built_kernel("attention_tiles").attend_back_in_tiles, task, len(heads))
        return found


def _dense(heads: Tensor) -> Tensor:
    return heads if heads.stride(-1) == 1 else heads.contiguous()


def _task(
    heads: Tensor, output: Tensor, table: Tensor | None = None, totals: Tensor | None = None
) -> _Attention:
    _, length, _, count, size = heads.shape
    item_stride, step_stride, _, head_stride, _ = heads.stride()
    return _Attention(
        *(length, count, size, item_stride, step_stride, head_stride),
        *(part.data_ptr() for part in heads.unbind(2)),
        *(None if table is None else table.data_ptr(), 2 * length - 1 + _MARGIN),
        *(output.data_ptr(), None if totals is None else totals.data_ptr()),
    )


def _run(function: Any, task: _Attention | _Gradients, items: int) -> None:
    function.argtypes = [POINTER(type(task)), c_int64, c_int64]
    function.restype = None
    function(byref(task), items, torch.get_num_threads())


def _table(distances: Tensor, length: int) -> Tensor:
    """Those of the distances from L - 1 down to 1 - L and ``_MARGIN`` more, ``[columns, D]``."""
    reach = len(distances) // 2
    steps = torch.arange(length - 1, -length - _MARGIN, -1)
    return distances[steps.clamp(-reach, reach - 1) + reach]
