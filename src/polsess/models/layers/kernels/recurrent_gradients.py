"""Layers of long short-term memory with gradients through ``recurrent.cpp``, under autocast to bfloat16.

The kernel takes the steps there and back. What it keeps on its way there, and what goes into the gates, lies
by blocks of units, so that whole cache lines are written. Gradients of inputs and weights are products of all
steps by PyTorch. Shapes: M sequences, L steps, N features, H units, D directions, K blocks; M before L or L
before M.
"""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import POINTER, Structure, byref, c_int64, c_void_p
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from polsess.models.layers.kernels import built_kernel
from polsess.models.layers.kernels.pointers import Floats, Rows, dense, floats, rows
from polsess.models.layers.kernels.recurrent_native import Direction, run_layer

_GATES, _LANES = 4, 16
_KEPT = _GATES * _LANES + 2 * _LANES
"""Numbers of 16 bits that are kept for a block: what goes into the gates, and the memory in float32."""
_MULTIPLE = 32
"""To which the width of a product is padded."""


class _Gradients(Structure):
    _fields_ = [
        *[(name, c_int64) for name in ("length", "hidden", "reverse", "rows")],
        *[("kept", c_void_p), ("output", Rows)],
        *[(name, Floats) for name in ("hidden_weight", "first_cell", "state", "cell")],
        ("gates", Rows),
    ]


def run_layer_with_gradients(
    steps: Tensor, batch_first: bool, states: Tensor, cells: Tensor, weights: Sequence[Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Run all directions of a layer, so that gradients can be taken.

    Args:
        steps: ``[L, M, N]``, or ``[M, L, N]`` with ``batch_first``.
        batch_first: See above.
        states: The first ones, ``[D, M, H]``.
        cells: Likewise.
        weights: Of each direction those of the input ``[4 H, N]`` and of the state before ``[4 H, H]``, then
            their biases ``[4 H]``; contiguous and in float32.

    Returns:
        The output in bfloat16, of the shape of the steps with D H features, and the last states and cells in
        float32.
    """
    run: tuple[Tensor, Tensor, Tensor] = _Layer.apply(steps, batch_first, states, cells, *weights)  # type: ignore[no-untyped-call]
    return run


class _Layer(torch.autograd.Function):
    """Arguments and results of ``run_layer_with_gradients``."""

    @staticmethod
    def forward(
        ctx: Any, steps: Tensor, batch_first: bool, states: Tensor, cells: Tensor, *weights: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        count, sequences, hidden = states.shape
        length = steps.shape[int(batch_first)]
        last_states, last_cells = _copied(states), _copied(cells)
        output = steps.new_empty(*steps.shape[:2], count * hidden, dtype=torch.bfloat16)
        kept = output.new_empty(count, length, _count_blocks(hidden), sequences, _KEPT)
        directions = [
            Direction(
                weights[4 * number : 4 * number + 4],
                _rows_first(own, batch_first),
                state=last_states[number],
                cell=last_cells[number],
                reverse=number == 1,
                kept=kept[number],
            )
            for number, own in enumerate(output.chunk(count, -1))
        ]
        run_layer("lstm", _rows_first(steps, batch_first), directions)
        ctx.save_for_backward(steps, states, cells, output, kept, *weights)
        ctx.batch_first = batch_first
        return output, last_states, last_cells

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor, *grad_last: Tensor) -> tuple[Tensor | None, ...]:
        steps, states, cells, output, kept, *weights = ctx.saved_tensors
        count, _, hidden = states.shape
        grad_first = [_copied(each) for each in grad_last]
        width = count * _count_blocks(hidden) * _GATES * _LANES
        grad_gates = output.new_empty(*steps.shape[:2], width)
        with torch.autocast("cpu", enabled=False):
            outputs, gates = (
                [_rows_first(own, ctx.batch_first) for own in each.chunk(count, -1)]
                for each in (dense(grad_output), grad_gates)
            )
            _run_back(weights, _copied(cells), kept, outputs, grad_first, gates)
            grad_steps = None
            if ctx.needs_input_grad[0]:
                of_input = torch.cat([_by_blocks(each) for each in weights[::4]]).to(torch.bfloat16)
                grad_steps = (grad_gates.flatten(0, 1) @ of_input).view_as(steps).to(steps.dtype)
            grad_weights: list[Tensor] = []
            own = zip(*(each.chunk(count, -1) for each in (output, grad_gates)), strict=True)
            for number, (after, gates_of_one) in enumerate(own):
                seen = _seen(steps, after, states[number], ctx.batch_first, number == 1)
                grad_weights += _grad_weights(seen, gates_of_one, steps.shape[-1], hidden)
        grad_states, grad_cells = (
            grad.to(each.dtype) for grad, each in zip(grad_first, (states, cells), strict=True)
        )
        return grad_steps, None, grad_states, grad_cells, *grad_weights


def _copied(states: Tensor) -> Tensor:
    """Where the kernel may replace them."""
    return states.to(torch.float32, copy=True, memory_format=torch.contiguous_format)


def _rows_first(sequences: Tensor, batch_first: bool) -> Tensor:
    return sequences if batch_first else sequences.transpose(0, 1)


def _count_blocks(hidden: int) -> int:
    return -(-hidden // _LANES)


def _by_blocks(weights: Tensor) -> Tensor:
    """Rows of gates and units ``[4 H, N]`` by blocks of units ``[K 4 16, N]``, zeros where there are none."""
    hidden, features = len(weights) // _GATES, weights.shape[1]
    blocks = weights.new_zeros(_GATES, _count_blocks(hidden) * _LANES, features)
    blocks[:, :hidden] = weights.view(_GATES, hidden, features)
    return blocks.view(_GATES, -1, _LANES, features).transpose(0, 1).reshape(-1, features)


def _run_back(
    weights: Sequence[Tensor],
    first_cells: Tensor,
    kept: Tensor,
    grad_outputs: Sequence[Tensor],
    grad_last: Sequence[Tensor],
    grad_gates: Sequence[Tensor],
) -> None:
    """Fill ``grad_gates``, and replace the gradients of the last states and cells by those of the first."""
    count, sequences, hidden = first_cells.shape
    tasks = (_Gradients * count)()
    for number, (given, written) in enumerate(zip(grad_outputs, grad_gates, strict=True)):
        tasks[number] = _Gradients(
            *(written.shape[1], hidden, number == 1, sequences),
            *(kept[number].data_ptr(), rows(given)),
            *(floats(weights[4 * number + 1]), floats(first_cells[number])),
            *(floats(each[number]) for each in grad_last),
            rows(written),
        )
    run = built_kernel("recurrent").lstm_backward_in_tiles
    run.argtypes = [POINTER(_Gradients), c_int64, c_int64, c_int64]
    run.restype = None
    run(byref(tasks[0]), count, sequences, torch.get_num_threads())


def _seen(steps: Tensor, output: Tensor, first: Tensor, batch_first: bool, reverse: bool) -> Tensor:
    """What a direction's weights meet in each step: input, state before and 1, padded by zeros."""
    features, hidden, time = steps.shape[-1], output.shape[-1], int(batch_first)
    width, length = features + hidden, steps.shape[time]
    seen = output.new_zeros(*steps.shape[:2], -(-(width + 1) // _MULTIPLE) * _MULTIPLE)
    seen[..., :features] = steps
    seen[..., width] = 1
    before = seen[..., features:width]
    before.narrow(time, int(not reverse), length - 1).copy_(output.narrow(time, int(reverse), length - 1))
    before.select(time, length - 1 if reverse else 0).copy_(first)
    return seen


def _grad_weights(seen: Tensor, grad_gates: Tensor, features: int, hidden: int) -> tuple[Tensor, ...]:
    """Those of one direction; one product for all of them takes less time than one for each."""
    grads = seen.flatten(0, 1).T @ grad_gates.flatten(0, 1)
    by_gates = grads.view(len(grads), -1, _GATES, _LANES).transpose(1, 2).flatten(2)[..., :hidden]
    grads = by_gates.flatten(1).float()
    bias = grads[features + hidden]
    return grads[:features].T, grads[features : features + hidden].T, bias, bias
