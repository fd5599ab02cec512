"""The selective scan: a linear recurrence whose step size, input and output weights depend on the sequence.

Gu, Dao (2023), "Mamba: linear-time sequence modeling with selective state spaces",
https://arxiv.org/abs/2312.00752. The continuous system h' = A h + B u, y = C h, with A diagonal, is sampled
with a step of its own at every position; the decay is held exactly, the input to first order.

Shapes: B batch, L length, D channels, N states of a channel, G groups of channels that share B and C.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.overrides import handle_torch_function, has_torch_function

from polsess.dependencies import is_installed
from polsess.models.layers.kernels import scan_native, scan_torch
from polsess.models.layers.kernels.scan_torch import ScanInputs


def selective_scan(
    u: Tensor,
    delta: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    d: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    *,
    delta_softplus: bool = False,
    reverse: bool = False,
) -> Tensor:
    r"""Run the recurrence of a selective state-space model over a sequence.

    For every batch item and channel, with :math:`h_{-1} = 0`,

    .. math::
        \Delta_l &= \mathrm{softplus}(\delta_l + \text{bias}) \\
        h_l &= e^{\Delta_l A} \odot h_{l-1} + \Delta_l B_l u_l  \qquad (N \text{ numbers}) \\
        y_l &= (C_l \cdot h_l + D u_l) \, \mathrm{silu}(z_l)

    The softplus is the identity above 20, as in the reference implementation. States are float32, or float64
    for float64 inputs. Nothing of size ``[B, D, L, N]`` is made: the forward pass keeps one state in 32, the
    backward pass recomputes the others. On CUDA ``mamba_ssm`` is used where installed, else a Triton kernel;
    on a CPU a compiled kernel where a compiler exists; else PyTorch.

    Args:
        u: The sequence, ``[B, L, D]``.
        delta: Step sizes before bias and softplus, ``[B, L, D]``.
        a: Decay rates, ``[D, N]``, negative for a stable system.
        b: Input weights: ``[B, L, N]``, ``[B, L, G, N]``, or ``[D, N]`` where they do not vary in time.
        c: Output weights, in the same three forms.
        d: Skip weights, ``[D]``.
        z: Gate, ``[B, L, D]``.
        delta_bias: ``[D]``.
        delta_softplus: Whether step sizes go through a softplus; they must be positive otherwise.
        reverse: Run from the end of the sequence to its start, as if both were flipped, without copies.

    Returns:
        ``[B, L, D]`` in the type of ``u``.

    Raises:
        ValueError: If shapes do not agree or the numbers are complex.
    """
    inputs = ScanInputs(u, delta, a, b, c, d, z, delta_bias, None, delta_softplus, reverse)
    _check(inputs)
    if has_torch_function((u,)):  # modes that count or trace see one function, whatever runs it
        given = (u, delta, a, b, c, d, z, delta_bias)
        result: Tensor = handle_torch_function(
            selective_scan, (u,), *given, delta_softplus=delta_softplus, reverse=reverse
        )
        return result
    if u.is_cuda and u.dtype != torch.float64 and is_installed("mamba_ssm"):
        return _mamba_ssm(inputs)
    return _run(inputs)[0]


def selective_scan_with_state(
    u: Tensor,
    delta: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    d: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    initial_state: Tensor | None = None,
    *,
    delta_softplus: bool = False,
    reverse: bool = False,
) -> tuple[Tensor, Tensor]:
    """As ``selective_scan``, from a given state and with the last one returned, for streaming.

    ``initial_state`` is ``[B, D, N]``, zeros by default; the other arguments are those of ``selective_scan``.

    Returns:
        Outputs ``[B, L, D]`` in the type of ``u`` and the state after the last step of the recurrence
        ``[B, D, N]`` (with ``reverse``, that of position 0), float32 or float64. Both carry gradients.

    Raises:
        ValueError: If shapes do not agree or the numbers are complex.
    """
    inputs = ScanInputs(u, delta, a, b, c, d, z, delta_bias, initial_state, delta_softplus, reverse)
    _check(inputs)
    if has_torch_function((u,)):
        given = (u, delta, a, b, c, d, z, delta_bias, initial_state)
        result: tuple[Tensor, Tensor] = handle_torch_function(
            selective_scan_with_state, (u,), *given, delta_softplus=delta_softplus, reverse=reverse
        )
        return result
    return _run(inputs)


def _check(inputs: ScanInputs) -> None:
    if inputs.u.ndim != 3 or inputs.a.ndim != 2 or inputs.u.shape[1] == 0:
        raise ValueError(
            f"selective_scan: u must be [B, L > 0, D] and a [D, N], got {list(inputs.u.shape)} and "
            f"{list(inputs.a.shape)}."
        )
    (batch, length, channels), states = inputs.u.shape, inputs.a.shape[1]
    expected: dict[str, list[tuple[int, ...]]] = {
        "delta": [(batch, length, channels)],
        "z": [(batch, length, channels)],
        "a": [(channels, states)],
        "b": _matrix_shapes(inputs, inputs.b),
        "c": _matrix_shapes(inputs, inputs.c),
        "d": [(channels,)],
        "delta_bias": [(channels,)],
        "initial_state": [(batch, channels, states)],
    }
    for name, shapes in expected.items():
        value = getattr(inputs, name)
        if value is not None and tuple(value.shape) not in shapes:
            known = " or ".join(str(list(shape)) for shape in shapes)
            raise ValueError(f"selective_scan: {name} must be {known}, got {list(value.shape)}.")
    if any(value is not None and value.is_complex() for value in inputs.tensors):
        raise ValueError("selective_scan: complex tensors are not supported; use real A, B and C.")
    groups = {matrix.shape[2] for matrix in (inputs.b, inputs.c) if matrix.ndim == 4}
    if len(groups) == 2 or (groups and inputs.b.ndim + inputs.c.ndim == 7 and groups != {1}):
        raise ValueError("selective_scan: b and c must have the same number of groups.")


def _matrix_shapes(inputs: ScanInputs, matrix: Tensor) -> list[tuple[int, ...]]:
    (batch, length, channels), states = inputs.u.shape, inputs.a.shape[1]
    shapes: list[tuple[int, ...]] = [(batch, length, states), (channels, states)]
    if matrix.ndim == 4 and matrix.shape[2] > 0 and channels % matrix.shape[2] == 0:
        shapes.append((batch, length, matrix.shape[2], states))
    return shapes


def _run(inputs: ScanInputs) -> tuple[Tensor, Tensor]:
    backend = _backend(inputs)
    with torch.autocast(inputs.u.device.type, enabled=False):
        if torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in inputs.tensors):
            options = (inputs.delta_softplus, inputs.reverse)
            return _SelectiveScan.apply(backend, *options, *inputs.tensors)  # type: ignore[no-untyped-call]
        y, last, _ = backend.forward(inputs, keep_states=False)
        return y.to(inputs.u.dtype), last


def _backend(inputs: ScanInputs) -> ModuleType:
    if scan_native.is_available(inputs):
        return scan_native
    if inputs.u.is_cuda and is_installed("triton"):
        from polsess.models.layers.kernels import scan_triton

        if scan_triton.is_available(inputs):
            return scan_triton
    return scan_torch


class _SelectiveScan(torch.autograd.Function):
    """Saves the inputs and one state in ``CHUNK_LENGTH``; the backward pass recomputes the rest."""

    @staticmethod
    def forward(
        ctx: Any, backend: ModuleType, delta_softplus: bool, reverse: bool, *tensors: Any
    ) -> tuple[Tensor, Tensor]:
        inputs = _inputs(tensors, delta_softplus, reverse)
        y, last, kept = backend.forward(inputs, keep_states=True)
        ctx.backend, ctx.options = backend, (delta_softplus, reverse)
        ctx.save_for_backward(kept, *tensors)
        ctx.set_materialize_grads(False)
        return y.to(inputs.u.dtype), last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor | None, grad_last: Tensor | None) -> tuple[Tensor | None, ...]:
        kept, *tensors = ctx.saved_tensors
        delta_softplus, reverse = ctx.options
        inputs = _inputs(tensors, delta_softplus, reverse)
        upcast = inputs.upcast()
        with torch.autocast(inputs.u.device.type, enabled=False):
            grad_y = torch.zeros_like(upcast.u) if grad_y is None else grad_y.to(upcast.u.dtype)
            grads = ctx.backend.backward(upcast, kept, grad_y, grad_last)
        # Autograd drops what nobody asked for.
        cast = [None if each is None else g.to(each.dtype) for g, each in zip(grads, tensors, strict=True)]
        return None, None, None, *cast


def _inputs(tensors: Sequence[Any], delta_softplus: bool, reverse: bool) -> ScanInputs:
    u, delta, a, b, c, d, z, delta_bias, initial_state = tensors
    return ScanInputs(u, delta, a, b, c, d, z, delta_bias, initial_state, delta_softplus, reverse)


def _mamba_ssm(inputs: ScanInputs) -> Tensor:
    """Through the CUDA kernel of the ``mamba_ssm`` package, which knows one direction and lengths last."""
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

    def lengths_last(sequence: Tensor | None) -> Tensor | None:
        if sequence is None or sequence.ndim == 2:
            return sequence
        return (sequence.flip(1) if inputs.reverse else sequence).movedim(1, -1).to(inputs.u.dtype)

    u, delta, b, c, z = (
        lengths_last(each) for each in (inputs.u, inputs.delta, inputs.b, inputs.c, inputs.z)
    )
    bias = inputs.delta_bias
    y = selective_scan_fn(
        u,
        delta,
        inputs.a.float(),
        b,
        c,
        None if inputs.d is None else inputs.d.float(),
        z,
        None if bias is None else bias.float(),
        inputs.delta_softplus,
    )
    y = y.movedim(-1, 1).to(inputs.u.dtype)
    return y.flip(1) if inputs.reverse else y
