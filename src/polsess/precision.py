"""Reduced precision of inference: what a device multiplies natively, what is chosen, and what else it costs.

Weights stay float32 and PyTorch's autocast decides by operation: products run in 16 bits; norms, transforms
and scans stay float32 where a network says so. Without instructions for them, such products are emulated and
up to a thousand times as slow.
"""

from __future__ import annotations

import functools
import time
import warnings
from typing import Literal, get_args

import torch
from torch.nn import functional as F

from polsess.machine import processor_flags

Precision = Literal["auto", "float32", "bfloat16", "float16"]
"""``auto`` is the reduced precision of the network where the device multiplies it natively, else float32."""

_NATIVE_FLAGS = {
    torch.bfloat16: {"avx512_bf16", "amx_bf16"},
    torch.float16: {"avx512_fp16", "amx_fp16"},
}
_TRIAL_ROUNDS = 3


def choose_precision(precision: Precision, best: torch.dtype | None, device: torch.device) -> torch.dtype:
    """The type in which a network's products are computed.

    Where it is asked for by name and the device has no instructions for it, a warning gives its cost.

    Args:
        precision: See ``Precision``.
        best: The reduced precision that the network keeps its quality in; None if there is none.
        device: Where it runs.

    Raises:
        ValueError: If there is no such precision.
    """
    if precision not in get_args(Precision):
        raise ValueError(f"precision: expected {', '.join(get_args(Precision))}; got {precision!r}.")
    if precision == "auto":
        return best if best is not None and multiplies_natively(device, best) else torch.float32
    dtype: torch.dtype = getattr(torch, precision)
    if dtype != torch.float32 and not multiplies_natively(device, dtype):
        ratio = times_as_long(device, dtype)
        warnings.warn(
            f"precision: this {device.type} has no instructions for products in {precision}; one took "
            f"{ratio:.1f} times as long as in float32. Use auto or float32.",
            stacklevel=2,
        )
    return dtype


def multiplies_natively(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a device has instructions for products in a 16-bit type."""
    if device.type == "cuda":
        return dtype == torch.float16 or torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and not _NATIVE_FLAGS[dtype].isdisjoint(processor_flags())


@functools.cache
def times_as_long(device: torch.device, dtype: torch.dtype) -> float:
    """How long a product takes in a 16-bit type, as a multiple of float32; measured once."""
    features = torch.ones(128, 128, device=device)
    reduced = features.to(dtype)
    with torch.inference_mode():
        plain, other = (min(_seconds(each) for _ in range(_TRIAL_ROUNDS)) for each in (features, reduced))
    return other / plain


def _seconds(features: torch.Tensor) -> float:
    start = time.perf_counter()
    float(F.linear(features, features)[0, 0])  # waits for a GPU
    return time.perf_counter() - start


def reduced(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """The context in which a network runs with its products in a type."""
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


def name_of(dtype: torch.dtype) -> Precision:
    """``float32``, ``bfloat16`` or ``float16``."""
    name: Precision = str(dtype).removeprefix("torch.")  # type: ignore[assignment]
    return name
