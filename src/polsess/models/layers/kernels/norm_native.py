"""Global layer normalisation with an optional PReLU through ``norm.cpp``. Inference in float32 on a CPU."""

from __future__ import annotations

from ctypes import POINTER, Structure, byref, c_double, c_int64

import torch
from torch import Tensor

from polsess.models.layers.blocks import is_plain_inference
from polsess.models.layers.kernels import built_kernel, load_kernel
from polsess.models.layers.kernels.pointers import Floats, floats


class _Norm(Structure):
    _fields_ = [
        *[(name, c_int64) for name in ("size", "channels", "num_slopes")],
        *[(name, Floats) for name in ("x", "weight", "bias", "slopes", "y")],
        ("eps", c_double),
    ]


def is_available(tokens: Tensor) -> bool:
    """Whether the kernel covers these features and can be built: contiguous ones of float32, in inference."""
    return is_plain_inference(tokens) and tokens.is_contiguous() and load_kernel("norm") is not None


def normalise(
    tokens: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    slopes: Tensor | None = None,
    *,
    inplace: bool = False,
) -> Tensor:
    """Normalise every item by the mean and variance over all its numbers.

    Args:
        tokens: ``[B, ..., C]``, contiguous.
        weight: ``[C]``.
        bias: ``[C]``.
        eps: Added to the variance.
        slopes: ``[1]`` or ``[C]`` of a PReLU that follows; None for none.
        inplace: Whether the result takes the place of the tokens.

    Returns:
        The same shape.
    """
    output = tokens if inplace else torch.empty_like(tokens)
    size, channels = tokens.shape[1:].numel(), tokens.shape[-1]
    pointers = (floats(tokens), floats(weight.contiguous()), floats(bias.contiguous()))
    norm = _Norm(
        *(size, channels, 0 if slopes is None else len(slopes)),
        *(*pointers, floats(slopes), floats(output), eps),
    )
    library = built_kernel("norm")
    library.normalise.argtypes = [POINTER(_Norm), c_int64, c_int64]
    library.normalise.restype = None
    library.normalise(byref(norm), len(tokens), torch.get_num_threads())
    return output
