"""What a run without memory calls in place of functions that look at numbers or take pointers.

A stand-in gives outputs of the right shapes, keeps for a backward pass what the function keeps, and gives
gradients of the right shapes there.

Shapes: B batch, L length, D channels, N states of a channel, F bins.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from polsess.models.layers.causal_conv import causal_conv
from polsess.models.layers.kernels.scan_torch import chunk_count
from polsess.models.layers.selective_scan import selective_scan, selective_scan_with_state


class _Empty(torch.autograd.Function):
    """Empty outputs of given shapes; keeps its inputs and ``num_kept`` numbers more."""

    @staticmethod
    def forward(ctx: Any, shapes: Sequence[Sequence[int]], num_kept: int, *inputs: Tensor | None) -> Any:
        first = next(each for each in inputs if each is not None)
        if any(each is not None and each.requires_grad for each in inputs):
            ctx.save_for_backward(first.new_empty(num_kept), *inputs)
        outputs = tuple(first.new_empty(shape) for shape in shapes)
        return outputs if len(outputs) > 1 else outputs[0]

    @staticmethod
    def backward(ctx: Any, *_: Tensor | None) -> tuple[Tensor | None, ...]:
        inputs = ctx.saved_tensors[1:]
        return (None, None, *(None if each is None else torch.empty_like(each) for each in inputs))


def _empty(shapes: Sequence[Sequence[int]], num_kept: int, *inputs: Tensor | None) -> Any:
    return _Empty.apply(shapes, num_kept, *inputs)  # type: ignore[no-untyped-call]


def _causal_conv(x: Tensor, weight: Tensor, bias: Tensor | None = None, **_: Any) -> Any:
    return _empty([x.shape], 0, x, weight, bias)


def _scan(u: Tensor, delta: Tensor, a: Tensor, *more: Tensor | None, **_: Any) -> Any:
    return _empty([u.shape], _kept_states(u, a), u, delta, a, *more)


def _scan_with_state(u: Tensor, delta: Tensor, a: Tensor, *more: Tensor | None, **_: Any) -> Any:
    return _empty([u.shape, (len(u), *a.shape)], _kept_states(u, a), u, delta, a, *more)


def _kept_states(u: Tensor, a: Tensor) -> int:
    return len(u) * chunk_count(u.shape[1]) * a.numel()


def _stepwise(num_kept_per_step: int) -> Callable[..., Any]:
    """Recurrent stacks that PyTorch runs step by step: ``_VF.gru`` and its like, without packed sequences."""

    def run(steps: Tensor, state: Tensor, weights: Sequence[Tensor], *options: Any) -> Any:
        *_, num_layers, _dropout, _train, bidirectional, _batch_first = options
        shape = (*steps.shape[:-1], state.shape[-1] * (1 + bidirectional))
        num_kept = num_kept_per_step * num_layers * math.prod(shape)
        return _empty([shape, state.shape], num_kept, steps, state, *weights)

    return run


def _lstm(steps: Tensor, states: Sequence[Tensor], weights: Sequence[Tensor], *options: Any) -> Any:
    *_, bidirectional, _batch_first = options
    shape = (*steps.shape[:-1], states[0].shape[-1] * (1 + bidirectional))
    return _empty([shape, *(each.shape for each in states)], 0, steps, *states, *weights)


def _istft(
    spectrum: Tensor, n_fft: int, hop_length: int, *_: Any, length: int | None = None, **__: Any
) -> Tensor:
    """The inverse transform of ``[B, F, L]`` without its test whether the windows overlap."""
    frames = torch.fft.irfft(spectrum, n=n_fft, dim=-2)
    total = (frames.shape[-1] - 1) * hop_length + n_fft
    wave = F.fold(frames, (1, total), (1, n_fft), stride=(1, hop_length))[:, 0, 0, n_fft // 2 :]
    return wave[:, : length or total - n_fft].clone()


_STAND_INS: dict[Any, Callable[..., Any]] = {
    causal_conv: _causal_conv,
    selective_scan: _scan,
    selective_scan_with_state: _scan_with_state,
    torch.gru: _stepwise(5),
    torch.rnn_tanh: _stepwise(1),
    torch.rnn_relu: _stepwise(1),
    torch.istft: _istft,
}


def stand_in(function: Any, args: Sequence[Any]) -> Callable[..., Any] | None:
    """What to call in place of a function, if anything.

    PyTorch runs an LSTM layer by layer on a CPU, but step by step where there are only shapes.
    """
    if function == torch.lstm and args[0].device.type == "meta":
        return _lstm
    return _STAND_INS.get(function)
