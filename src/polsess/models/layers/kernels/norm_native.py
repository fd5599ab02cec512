"""Global layer normalisation with an optional PReLU through ``norm.cpp``. Inference on a CPU."""

from __future__ import annotations

from ctypes import POINTER, Structure, byref, c_double, c_int64, c_void_p

import torch
from torch import Tensor

from polsess.models.layers.blocks import is_plain_inference
from polsess.models.layers.kernels import built_kernel, load_kernel
from polsess.models.layers.kernels.pointers import Floats, floats


class _Norm(Structure):
    _fields_ = [
        *[(name, c_int64) for name in ("size", "channels", "num_slopes")],
        *[(name, Floats) for name in ("offsets", "weight", "bias", "slopes")],
        *[(name, c_void_p) for name in ("x", "y")],
        *[(name, c_int64) for name in ("x_is_bfloat16", "y_is_bfloat16")],
        ("eps", c_double),
    ]


def is_available(tokens: Tensor, *others: torch.dtype) -> bool:
    """Whether the kernel covers these features and can be built: contiguous ones of float32, in inference.

    Args:
        tokens: The features.
        others: Types that will do as well, of which ``normalise`` takes bfloat16.
    """
    return is_plain_inference(tokens, *others) and tokens.is_contiguous() and load_kernel("norm") is not None


def normalise(
    tokens: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    slopes: Tensor | None = None,
    offsets: Tensor | None = None,
    *,
    dtype: torch.dtype | None = None,
    inplace: bool = False,
) -> Tensor:
    """Normalise every item by the mean and variance over all its numbers.

    Args:
        tokens: ``[B, ..., C]``, contiguous.
        weight: ``[C]``.
        bias: ``[C]``.
        eps: Added to the variance.
        slopes: ``[1]`` or ``[C]`` of a PReLU that follows; None for none.
        offsets: ``[C]``, added first; None for none.
        dtype: Of the result, float32 or bfloat16; None for that of the tokens.
        inplace: Whether the result takes the place of the tokens, if it has their type.

    Returns:
        The same shape.
    """
    dtype = dtype or tokens.dtype
    output = tokens if inplace and dtype == tokens.dtype else torch.empty_like(tokens, dtype=dtype)
    size, channels = tokens.shape[1:].numel(), tokens.shape[-1]
    kept = [each if each is None else each.contiguous() for each in (offsets, weight, bias, slopes)]
    norm = _Norm(
        *(size, channels, 0 if slopes is None else len(slopes)),
        *(floats(each) for each in kept),
        *(tokens.data_ptr(), output.data_ptr()),
        *(each.dtype == torch.bfloat16 for each in (tokens, output)),
        eps,
    )
    library = built_kernel("norm")
    library.normalise.argtypes = [POINTER(_Norm), c_int64, c_int64]
    library.normalise.restype = None
    library.normalise(byref(norm), len(tokens), torch.get_num_threads())
    return output
