"""A layer of gated recurrent units through ``gru.cpp``. Inference in float32 on a CPU.

Shapes: M sequences, L steps, H units.
"""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import POINTER, Structure, byref, c_int64
from dataclasses import dataclass

import torch
from torch import Tensor

from polsess.models.layers.blocks import is_plain_inference
from polsess.models.layers.kernels import built_kernel, load_kernel
from polsess.models.layers.kernels.pointers import Floats, Rows, floats, rows


class _Gru(Structure):
    _fields_ = [
        *[(name, c_int64) for name in ("length", "hidden", "reverse")],
        *[("gates", Rows), ("output", Rows)],
        *[(name, Floats) for name in ("weight", "bias", "state")],
    ]


@dataclass(frozen=True)
class Direction:
    """A direction of a layer."""

    gates: Tensor
    """Products with the input, their biases added: reset, update and new, ``[M, L, 3 H]``."""
    weight: Tensor
    """Of the product with the state before, ``[3 H, H]``."""
    bias: Tensor
    """``[3 H]``."""
    output: Tensor
    """Receives the states, ``[M, L, H]``."""
    state: Tensor
    """``[M, H]``, contiguous: the first one, which the last one replaces."""
    reverse: bool


def is_available(steps: Tensor) -> bool:
    """Whether the kernel covers networks of this input and can be built: inference on a CPU in float32."""
    plain = is_plain_inference(steps) and not torch.is_autocast_enabled("cpu")
    return plain and load_kernel("gru") is not None


def run_layer(directions: Sequence[Direction]) -> None:
    """Run all directions of a layer side by side."""
    kept = [(each.weight.contiguous(), each.bias.contiguous()) for each in directions]
    tasks = (_Gru * len(directions))(
        *(
            _Gru(
                *(each.gates.shape[1], weight.shape[1], each.reverse),
                *(rows(each.gates), rows(each.output)),
                *(floats(weight), floats(bias), floats(each.state)),
            )
            for each, (weight, bias) in zip(directions, kept, strict=True)
        )
    )
    library = built_kernel("gru")
    library.gru_forward.argtypes = [POINTER(_Gru), c_int64, c_int64, c_int64]
    library.gru_forward.restype = None
    library.gru_forward(byref(tasks[0]), len(directions), len(directions[0].gates), torch.get_num_threads())
