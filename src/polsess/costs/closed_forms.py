"""Multiply-accumulates (MACs) of operations: one closed form per kind of layer.

A MAC is one multiplication with the addition that follows it, so FLOPs are twice as many. Other operations
count as nothing: sums, products and functions of single elements, norms, softmax, copies.

| kind | closed form |
|---|---|
| convolution | outputs x inputs of a group x taps; transposed: inputs x outputs of a group x taps |
| linear | rows x inputs x outputs, of products with a parameter |
| attention | the same, of products of two activations; fused: H x L x S x (E of keys + E of values) |
| recurrent | steps x sequences x directions x gates x H x (inputs + H), of every layer |
| scan | B x L x D x (4 x N + 2): the step times A, times B, the state's decay, times C; step and skip |
| stft | 5/4 x n_fft x log2(n_fft) per frame: half the 5/2 N log2 N FLOPs of a real transform by splitting |
| other | products of vectors |

Shapes: B batch, L and S steps, D channels, N states of a channel, H heads or hidden units, E features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from polsess.models.layers.causal_conv import causal_conv
from polsess.models.layers.depthwise import depthwise_conv
from polsess.models.layers.dilated import dilated_depthwise_conv
from polsess.models.layers.selective_scan import selective_scan, selective_scan_with_state

Kind = Literal["convolution", "linear", "attention", "recurrent", "scan", "stft", "other"]
KINDS: tuple[Kind, ...] = get_args(Kind)

ClosedForm = Callable[[Sequence[Any], Any], int]
"""Computes MACs from the arguments of an operation and its output."""

_GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}


def _product(first: Tensor, second: Tensor) -> int:
    """``[..., L, E] x [..., E, S]``."""
    return first.numel() * (second.shape[-1] if second.ndim > 1 else 1)


def _convolution(args: Sequence[Any], output: Tensor) -> int:
    inputs, weight, transposed = args[0], args[1], args[6]
    return (inputs if transposed else output).numel() * math.prod(weight.shape[1:])


def _attention(args: Sequence[Any], _: Any) -> int:
    query, key, value = args[:3]
    return int(query.shape[:-1].numel() * key.shape[-2] * (query.shape[-1] + value.shape[-1]))


def _recurrent_layer(args: Sequence[Any], _: Any) -> int:
    """One direction of one layer in oneDNN's form: steps ``[L, M, N]``, then two matrices ``[G * H, .]``."""
    steps, from_input, from_state = args[0], args[1], args[2]
    return int(steps.shape[0] * steps.shape[1] * (from_input.numel() + from_state.numel()))


def real_fft_macs(n_fft: int, num_frames: int) -> int:
    """MACs of real Fourier transforms; see the table above."""
    return round(1.25 * n_fft * math.log2(n_fft)) * num_frames


def _fft_from_real(args: Sequence[Any], _: Any) -> int:
    n_fft = math.prod(args[0].shape[dim] for dim in args[1])
    return real_fft_macs(n_fft, args[0].numel() // n_fft)


def _fft_to_real(args: Sequence[Any], output: Tensor) -> int:
    n_fft = math.prod(output.shape[dim] for dim in args[1])
    return real_fft_macs(n_fft, output.numel() // n_fft)


def _fft_complex(args: Sequence[Any], output: Tensor) -> int:
    return 2 * _fft_to_real(args, output)


aten = torch.ops.aten

OPERATIONS: dict[Any, tuple[Kind, ClosedForm]] = {
    aten.convolution: ("convolution", _convolution),
    aten.mm: ("linear", lambda args, _: _product(args[0], args[1])),
    aten.addmm: ("linear", lambda args, _: _product(args[1], args[2])),
    aten.bmm: ("attention", lambda args, _: _product(args[0], args[1])),
    aten.baddbmm: ("attention", lambda args, _: _product(args[1], args[2])),
    aten.mv: ("other", lambda args, _: _product(args[0], args[1])),
    aten.dot: ("other", lambda args, _: args[0].numel()),
    aten._scaled_dot_product_flash_attention_for_cpu: ("attention", _attention),
    aten._scaled_dot_product_flash_attention: ("attention", _attention),
    aten._scaled_dot_product_efficient_attention: ("attention", _attention),
    aten._scaled_dot_product_cudnn_attention: ("attention", _attention),
    aten.mkldnn_rnn_layer: ("recurrent", _recurrent_layer),
    aten._fft_r2c: ("stft", _fft_from_real),
    aten._fft_c2r: ("stft", _fft_to_real),
    aten._fft_c2c: ("stft", _fft_complex),
}
"""Operations of PyTorch. A product is linear where one factor is a parameter."""

PRODUCTS = {aten.mm, aten.addmm, aten.bmm, aten.baddbmm}


def _recurrent(args: Sequence[Any], _: Any) -> int:
    """A whole stack: each matrix acts on every step of every sequence."""
    weights = next(each for each in args if isinstance(each, (list, tuple)) and each[0].ndim <= 2)
    steps = args[0].shape[:-1].numel()
    return int(steps * sum(each.numel() for each in weights if each.ndim == 2))


def _depthwise(args: Sequence[Any], output: Tensor) -> int:
    return output.numel() * int(args[1].shape[-1])


def _scan(args: Sequence[Any], _: Any) -> int:
    return int(args[0].numel() * (4 * args[2].shape[1] + 2))


FUNCTIONS: dict[Any, tuple[Kind, ClosedForm]] = {
    torch.lstm: ("recurrent", _recurrent),
    torch.gru: ("recurrent", _recurrent),
    torch.rnn_tanh: ("recurrent", _recurrent),
    torch.rnn_relu: ("recurrent", _recurrent),
    depthwise_conv: ("convolution", _depthwise),
    dilated_depthwise_conv: ("convolution", _depthwise),
    causal_conv: ("convolution", _depthwise),
    selective_scan: ("scan", _scan),
    selective_scan_with_state: ("scan", _scan),
}
"""Functions that are counted as a whole; operations within them count as nothing."""
