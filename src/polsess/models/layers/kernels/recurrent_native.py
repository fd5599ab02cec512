"""Layers of long short-term memory and of gated recurrent units through ``recurrent.cpp``.

Inference on a CPU in float32; long short-term memory also under autocast to bfloat16, where the processor
multiplies tiles of it (AMX), then in training as well (``recurrent_gradients``). Shapes: M sequences, L
steps, N features, H units, G gates.
"""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import POINTER, Structure, byref, c_int64, c_void_p
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from polsess.models.layers.blocks import is_plain
from polsess.models.layers.kernels import built_kernel, load_kernel, multiplies_in_tiles
from polsess.models.layers.kernels.pointers import Floats, Rows, dense, floats, rows
from polsess.models.layers.products import linear

Kind = Literal["lstm", "gru"]
"""Units of a layer."""
_LEAST_SEQUENCES, _LEAST_IN_TILES = 6, 2
"""Fewer of them use a weight of the input too seldom: one product of all steps before is better."""
_MANY_WEIGHTS, _LEAST_OF_MANY = 1 << 20, 16
"""In tiles, weights as many as these do not stay in a cache from step to step."""


class _Direction(Structure):
    _fields_ = [
        *[(name, c_int64) for name in ("length", "inputs", "hidden", "reverse")],
        *[("input", Rows), ("output", Rows)],
        *[(name, Floats) for name in ("input_weight", "hidden_weight", "bias", "state", "cell")],
        ("kept", c_void_p),
        ("rows", c_int64),
    ]


@dataclass(frozen=True)
class Direction:
    """A direction of a layer; weights and states are contiguous."""

    weights: Sequence[Tensor]
    """Those of the input ``[G H, N]`` and of the state before ``[G H, H]``, then their biases ``[G H]``."""
    output: Tensor
    """Receives the states, ``[M, L, H]``; of bfloat16 if the products are to be, else of float32."""
    state: Tensor
    """``[M, H]`` in float32: the first one, which the last one replaces."""
    cell: Tensor | None
    """As ``state``; None for gated recurrent units."""
    reverse: bool
    kept: Tensor | None = None
    """In tiles, receives what gradients are made of; contiguous, see ``recurrent_gradients``."""


def is_available(kind: Kind, steps: Tensor) -> bool:
    """Whether the kernel covers layers of this input, with gradients where these are recorded; see above.

    Args:
        kind: Of the units.
        steps: The input.
    """
    if not torch.is_autocast_enabled("cpu"):
        plain = is_plain(steps) and not torch.is_grad_enabled()
        return plain and load_kernel("recurrent") is not None
    reduced = kind == "lstm" and torch.get_autocast_dtype("cpu") == torch.bfloat16
    return reduced and is_plain(steps, torch.bfloat16) and multiplies_in_tiles("recurrent")


def run_layer(kind: Kind, steps: Tensor, directions: Sequence[Direction]) -> None:
    """Run all directions of a layer side by side.

    Args:
        kind: Of the units.
        steps: ``[M, L, N]``.
        directions: Their weights, and where their states go.
    """
    steps = dense(steps)
    in_tiles = directions[0].output.dtype == torch.bfloat16
    least = _LEAST_SEQUENCES
    if in_tiles:
        num_weights = sum(each.numel() for each in directions[0].weights)
        least = _LEAST_OF_MANY if num_weights >= _MANY_WEIGHTS else _LEAST_IN_TILES
    multiplies = kind == "lstm" and len(steps) >= least
    kept, tasks = [], (_Direction * len(directions))()
    for number, each in enumerate(directions):
        of_input, of_state, input_bias, bias = each.weights
        if multiplies:
            given, bias = steps, bias + input_bias
        else:
            given = linear(steps, of_input, input_bias).float()
        kept.append((given, bias))
        tasks[number] = _Direction(
            *(steps.shape[1], steps.shape[2] if multiplies else 0, each.state.shape[1], each.reverse),
            *(rows(given), rows(each.output)),
            *(floats(of_input), floats(of_state), floats(bias)),
            *(floats(each.state), floats(each.cell)),
            *(None if each.kept is None else each.kept.data_ptr(), len(steps)),
        )
    run = getattr(built_kernel("recurrent"), f"{kind}_forward_in_tiles" if in_tiles else f"{kind}_forward")
    run.argtypes = [POINTER(_Direction), c_int64, c_int64, c_int64]
    run.restype = None
    run(byref(tasks[0]), len(directions), len(steps), torch.get_num_threads())
