"""Inference a few frames at a time, so that what lies between layers stays in the processor's cache.

Shapes: B batch, L frames, N features.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor
from torch.overrides import has_torch_function


class Operation(Protocol):
    """Of two tensors, e.g. ``torch.add``."""

    def __call__(self, input: Tensor, other: Tensor, /, *, out: Tensor | None = None) -> Tensor: ...


def frames_per_block(device: torch.device) -> int:
    """Tokens that an inference step takes at once: on a processor as many as its cache holds."""
    return 1024 if device.type == "cpu" else 65536


def runs_in_blocks() -> bool:
    """Whether inference may take a part at a time: not while gradients or a graph are recorded."""
    return not (torch.is_grad_enabled() or torch.compiler.is_compiling())


def is_plain(features: Tensor, *others: torch.dtype) -> bool:
    """Whether these are float32 features on a CPU that nothing traces or counts.

    Args:
        features: Any tensor.
        others: Types that will do as well.
    """
    tracing = torch.jit.is_tracing() or has_torch_function((features,))  # type: ignore[attr-defined, no-untyped-call]
    simple = not (tracing or torch.compiler.is_compiling())
    return simple and features.device.type == "cpu" and features.dtype in (torch.float32, *others)


def is_plain_inference(features: Tensor, *others: torch.dtype) -> bool:
    """As ``is_plain``, without gradients."""
    return not torch.is_grad_enabled() and is_plain(features, *others)


def into_first(operation: Operation, first: Tensor, second: Tensor) -> Tensor:
    """Combine two tensors, in inference in the memory of the first, which its owner must not need again.

    Args:
        operation: ``torch.add`` or ``torch.mul``.
        first: Of the shape of the result.
        second: Of a shape that broadcasts to it.
    """
    if runs_in_blocks() and first.dtype == second.dtype:
        return operation(first, second, out=first)
    return operation(first, second)


def map_near_frames(
    function: Callable[[Tensor], Tensor],
    frames: Tensor,
    reach: int = 0,
    together: int = 1,
    block_frames: int | None = None,
) -> Tensor:
    """Apply a network whose outputs depend on neighbouring frames only, in inference block by block.

    Args:
        function: Maps ``[M, L, N]`` to the same shape for any L and any M that ``together`` divides. It takes
            what lies beyond the borders of its input for missing.
        frames: ``[B, L, N]``.
        reach: Frames before and after its own that an output depends on.
        together: Neighbouring items of the batch that the network takes at once.
        block_frames: Frames that an inference step takes at once; None for ``frames_per_block``.

    Returns:
        ``[B, L, N]``.
    """
    length, block = frames.shape[1], block_frames or frames_per_block(frames.device)
    if not runs_in_blocks() or length * len(frames) <= block:
        return function(frames)
    output = torch.empty_like(frames, memory_format=torch.contiguous_format)
    num_items = together * max(1, block // (together * length))
    step = max(block // num_items, 1)
    for items, target in zip(frames.split(num_items), output.split(num_items), strict=True):
        for start in range(0, length, step):
            first = max(0, start - reach)
            part = function(items[:, first : start + step + reach])
            target[:, start : start + step] = part[:, start - first : start - first + step]
    return output
