"""The selective scan through ``mamba.cpp``: one pass on a CPU.

Forward of float32 or bfloat16 sequences, backward of float32; the states are float32 in both.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, Structure, byref, c_int64

import torch
from torch import Tensor

from polsess.models.layers.kernels import built_kernel, load_kernel
from polsess.models.layers.kernels.pointers import Floats, Rows, dense, floats, rows
from polsess.models.layers.kernels.scan_torch import CHUNK_LENGTH, ScanInputs, chunk_count

_MAX_STATES = 64  # as kMaxStates


class _Scan(Structure):
    _fields_ = [
        *[(name, c_int64) for name in ("length", "channels", "states", "chunk", "reverse", "softplus")],
        *[(name, Rows) for name in ("u", "delta", "z", "b", "c", "y")],
        *[(name, Floats) for name in ("a", "skip", "bias", "initial", "last", "checkpoints")],
    ]


class _Gradients(Structure):
    _fields_ = [
        *[(name, Rows) for name in ("y", "u", "delta", "z", "b", "c")],
        *[(name, Floats) for name in ("last", "a", "skip", "bias", "initial")],
    ]


def is_available(inputs: ScanInputs) -> bool:
    """Whether the kernel covers these inputs (one group, B and C over time) and can be built."""
    covered = inputs.b.ndim == inputs.c.ndim == 3 and inputs.a.shape[1] <= _MAX_STATES
    on_cpu = inputs.u.device.type == "cpu" and inputs.u.dtype != torch.float64
    return covered and on_cpu and load_kernel("mamba") is not None


def forward(inputs: ScanInputs, keep_states: bool) -> tuple[Tensor, Tensor, Tensor | None]:
    """As ``scan_torch.forward``."""
    inputs = inputs.upcast({torch.float32, torch.bfloat16})
    batch, length, channels = inputs.u.shape
    shape = (inputs.a.shape[1], channels)
    y = inputs.u.new_empty(batch, length, channels)
    last = inputs.a.new_empty(batch, *shape)
    kept = inputs.a.new_empty(batch, chunk_count(length), *shape) if keep_states else None
    arguments = _Arguments(inputs, y=y, last=last, checkpoints=kept)
    _library().scan_forward(byref(arguments.scan), batch, torch.get_num_threads())
    return y, last.mT, kept


def backward(
    inputs: ScanInputs, kept: Tensor, grad_output: Tensor, grad_last: Tensor | None
) -> tuple[Tensor | None, ...]:
    """As ``scan_torch.backward``."""
    arguments = _Arguments(inputs, y=None, last=None, checkpoints=kept)
    grads = {name: torch.empty_like(dense(getattr(inputs, name))) for name in ("u", "delta", "b", "c")}
    gate = None if inputs.z is None else torch.empty_like(dense(inputs.z))
    initial = None if inputs.initial_state is None else torch.empty_like(arguments.state)
    grad_y, last = dense(grad_output), None if grad_last is None else grad_last.mT.contiguous()
    batch, channels, parts = len(inputs.u), len(inputs.a), min(torch.get_num_threads(), len(inputs.u))
    sums = [inputs.a.new_zeros(parts, *shape) for shape in (arguments.rates.shape, (channels,), (channels,))]
    out = _Gradients(y=rows(grad_y), z=rows(gate), last=floats(last), initial=floats(initial))
    out.a, out.skip, out.bias = (floats(each) for each in sums)
    for name, value in grads.items():
        setattr(out, name, rows(value))
    _library().scan_backward(byref(arguments.scan), byref(out), batch, parts)
    a, d, bias = (each.sum(0) for each in sums)
    return (
        *(grads["u"], grads["delta"], a.mT, grads["b"], grads["c"]),
        d if inputs.d is not None else None,
        gate,
        bias if inputs.delta_bias is not None else None,
        initial.mT if initial is not None else None,
    )


class _Arguments:
    """The C structure of a scan, with the tensors that its pointers point into."""

    def __init__(
        self, inputs: ScanInputs, y: Tensor | None, last: Tensor | None, checkpoints: Tensor | None
    ) -> None:
        self.rates = inputs.a.mT.contiguous()
        sequences = [inputs.u, inputs.delta, inputs.z, inputs.b, inputs.c]
        self.sequences = [None if each is None else dense(each) for each in sequences]
        self.vectors = [None if each is None else each.contiguous() for each in (inputs.d, inputs.delta_bias)]
        initial = inputs.initial_state
        self.state = inputs.a.new_empty(0) if initial is None else initial.mT.contiguous()
        self.outputs = (y, last, checkpoints)
        self.scan = _Scan(
            *inputs.u.shape[1:],
            inputs.a.shape[1],
            CHUNK_LENGTH,
            inputs.reverse,
            inputs.delta_softplus,
            *(rows(each) for each in (*self.sequences, y)),
            *(floats(each) for each in (self.rates, *self.vectors)),
            floats(self.state if initial is not None else None),
            floats(last),
            floats(checkpoints),
        )


def _library() -> ctypes.CDLL:
    library = built_kernel("mamba")
    library.scan_forward.argtypes = [POINTER(_Scan), c_int64, c_int64]
    library.scan_backward.argtypes = [POINTER(_Scan), POINTER(_Gradients), c_int64, c_int64]
    library.scan_forward.restype = library.scan_backward.restype = None
    return library
