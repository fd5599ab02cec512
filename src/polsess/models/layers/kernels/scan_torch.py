"""The selective scan in PyTorch: an in-place recurrence; the backward pass recomputes the states.

The state is ``[B, G, N, E]`` with channels innermost: one step is five passes over a buffer that stays in the
cache, because rows are worked through in blocks. On a CPU this measured faster than associative and
chunked-matrix forms, which move every state through memory several times.

Shapes: B batch, L length, D channels = G groups x E channels of a group, N states.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

CHUNK_LENGTH = 32
"""Steps between kept states: the backward pass recomputes this many at a time."""
_BLOCK_ELEMENTS = 1 << 18  # states worked on at once on a CPU: 1 MB, within the second-level cache


@dataclass(frozen=True)
class ScanInputs:
    """The arguments of ``selective_scan``, or (from a backward pass) the gradients of its tensors."""

    u: Tensor
    delta: Tensor
    a: Tensor
    b: Tensor
    c: Tensor
    d: Tensor | None
    z: Tensor | None
    delta_bias: Tensor | None
    initial_state: Tensor | None
    delta_softplus: bool = False
    reverse: bool = False

    @property
    def tensors(self) -> tuple[Tensor | None, ...]:
        """The tensors in the order of the fields."""
        first = (self.u, self.delta, self.a, self.b, self.c)
        return (*first, self.d, self.z, self.delta_bias, self.initial_state)

    def upcast(self, readable: Collection[torch.dtype] = ()) -> ScanInputs:
        """In float32, or float64 where the input has it: a state in half precision would lose its past.

        Args:
            readable: Types in which sequences stay as they are.
        """
        dtype = torch.promote_types(self.u.dtype, torch.float32)
        parameters = ("a", "d", "delta_bias", "initial_state")
        values = {name: getattr(self, name) for name in ("u", "delta", "b", "c", "z", *parameters)}
        cast = {
            name: value.to(dtype)
            for name, value in values.items()
            if value is not None and (name in parameters or value.dtype not in readable)
        }
        return replace(self, **cast)


def chunk_count(length: int) -> int:
    """Number of kept states of a scan of this length."""
    return -(-length // CHUNK_LENGTH)


def forward(inputs: ScanInputs, keep_states: bool) -> tuple[Tensor, Tensor, Tensor | None]:
    """Run the scan.

    Args:
        inputs: Of any floating-point types.
        keep_states: Whether a backward pass will follow.

    Returns:
        Outputs ``[B, L, D]``, the last state ``[B, D, N]``, and the states at the starts of the chunks.
    """
    inputs = inputs.upcast()
    terms = _Terms(inputs)
    last = terms.state(inputs.initial_state)
    kept = last.new_empty(chunk_count(terms.length), *last.shape) if keep_states else None
    outputs = torch.empty_like(terms.x)
    for rows in terms.row_blocks():
        state, y = last[rows], outputs[rows].unbind(1)
        decay = torch.empty_like(state)
        steps = terms.steps(rows)
        for index, at in enumerate(terms.order()):
            if kept is not None and index % CHUNK_LENGTH == 0:
                kept[index // CHUNK_LENGTH, rows] = state
            dt, x, b, c = steps[at]
            torch.mul(dt, terms.a, out=decay)
            state.mul_(decay.exp_()).addcmul_(x, b)
            y[at].copy_(_over_states(state, c))
    result = outputs.flatten(2)  # [B, L, D]
    if inputs.d is not None:
        result = result.addcmul(inputs.u, inputs.d)
    if inputs.z is not None:
        result = result * F.silu(inputs.z)
    return result, last.transpose(2, 3).flatten(1, 2), kept


def backward(
    inputs: ScanInputs, kept: Tensor, grad_output: Tensor, grad_last: Tensor | None
) -> tuple[Tensor | None, ...]:
    """Gradients of the tensors of ``inputs``, in the order of its fields.

    Args:
        inputs: As given to ``forward``, in one floating-point type.
        kept: What ``forward`` kept.
        grad_output: ``[B, L, D]``.
        grad_last: ``[B, D, N]`` or None for zero.
    """
    terms = _Terms(inputs)
    grads = _Gradients(inputs, terms, grad_output, grad_last)
    for rows in terms.row_blocks():
        for chunk in reversed(range(len(kept))):
            _backward_chunk(terms, grads, rows, chunk, kept[chunk, rows])
    return grads.collect()


class _Terms:
    """The scan's inputs as the recurrence wants them."""

    def __init__(self, inputs: ScanInputs) -> None:
        batch, self.length, channels = inputs.u.shape
        grouped = [matrix.shape[2] for matrix in (inputs.b, inputs.c) if matrix.ndim == 4]
        self.groups = grouped[0] if grouped else 1
        self.width = channels // self.groups  # E
        raw = inputs.delta if inputs.delta_bias is None else inputs.delta + inputs.delta_bias
        self.dt = self._split(F.softplus(raw) if inputs.delta_softplus else raw)  # [B, L, G, E]
        self.u = self._split(inputs.u)
        self.x = self.dt * self.u
        self.a = self._per_channel(inputs.a)  # [G, N, E]
        self.b, self.c = self._matrix(inputs.b), self._matrix(inputs.c)  # [B, L, G, N, 1] or [G, N, E]
        self.raw, self.batch, self.reverse = raw, batch, inputs.reverse

    def _split(self, sequence: Tensor) -> Tensor:
        return sequence.unflatten(2, (self.groups, self.width))

    def _per_channel(self, matrix: Tensor) -> Tensor:
        """``[D, N]`` to ``[G, N, E]``."""
        return matrix.unflatten(0, (self.groups, self.width)).mT.contiguous()

    def _matrix(self, matrix: Tensor) -> Tensor:
        if matrix.ndim == 2:
            return self._per_channel(matrix)
        return (matrix.unsqueeze(2) if matrix.ndim == 3 else matrix).unsqueeze(-1)

    def state(self, given: Tensor | None) -> Tensor:
        """``[B, D, N]`` to a fresh ``[B, G, N, E]``; zeros for None."""
        if given is None:
            return self.dt.new_zeros(self.batch, *self.a.shape)
        return given.unflatten(1, (self.groups, self.width)).mT.clone(memory_format=torch.contiguous_format)

    def row_blocks(self) -> Iterator[slice]:
        rows = max(1, _BLOCK_ELEMENTS // self.a.numel()) if self.dt.device.type == "cpu" else self.batch
        return (slice(start, start + rows) for start in range(0, self.batch, rows))

    def order(self) -> range:
        """Time steps in the order of the recurrence."""
        return range(self.length - 1, -1, -1) if self.reverse else range(self.length)

    def steps(self, rows: slice) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """Per time step: dt and x ``[R, G, 1, E]``, b and c ``[R, G, N, 1]`` or ``[G, N, E]``."""
        dt, x = (each[rows].unsqueeze(-2).unbind(1) for each in (self.dt, self.x))
        b, c = (
            each[rows].unbind(1) if each.ndim == 5 else (each,) * self.length for each in (self.b, self.c)
        )
        return list(zip(dt, x, b, c, strict=True))


class _Gradients:
    """Accumulators of the backward pass, shaped as the terms."""

    def __init__(
        self, inputs: ScanInputs, terms: _Terms, grad_output: Tensor, grad_last: Tensor | None
    ) -> None:
        self.inputs, self.terms, self.grad_output = inputs, terms, grad_output
        ungated = grad_output if inputs.z is None else grad_output * F.silu(inputs.z)
        self.y = ungated.unflatten(2, (terms.groups, terms.width))
        self.state = terms.state(grad_last)
        self.a = torch.zeros_like(self.state)
        self.x, self.dt = torch.empty_like(terms.x), torch.empty_like(terms.x)
        self.b, self.c = torch.zeros_like(terms.b), torch.zeros_like(terms.c)
        self.outputs = torch.empty_like(terms.x) if inputs.z is not None else None

    def collect(self) -> tuple[Tensor | None, ...]:
        inputs, terms = self.inputs, self.terms
        y = self.y.flatten(2)
        u = (self.x * terms.dt).flatten(2)
        delta = (self.dt + self.x * terms.u).flatten(2)
        if inputs.delta_softplus:
            delta = torch.where(terms.raw > 20, delta, delta * torch.sigmoid(terms.raw))
        d = z = None
        if inputs.d is not None:
            d = (y * inputs.u).sum((0, 1))
            u = u.addcmul_(y, inputs.d)
        if inputs.z is not None and self.outputs is not None:
            out = self.outputs.flatten(2)
            out = out if inputs.d is None else out.addcmul_(inputs.u, inputs.d)
            share = torch.sigmoid(inputs.z)
            z = self.grad_output * out * share * (1 + inputs.z * (1 - share))
        bias = None if inputs.delta_bias is None else delta.sum((0, 1))
        initial = None if inputs.initial_state is None else self.state.mT.flatten(1, 2)
        a = self.a.sum(0).mT.flatten(0, 1)
        return (
            u,
            delta,
            a,
            self._matrix(inputs.b, self.b),
            self._matrix(inputs.c, self.c),
            d,
            z,
            bias,
            initial,
        )

    @staticmethod
    def _matrix(given: Tensor, gradient: Tensor) -> Tensor:
        return gradient.mT.flatten(0, 1) if given.ndim == 2 else gradient.reshape(given.shape)


def _over_states(state: Tensor, weights: Tensor) -> Tensor:
    """Sum ``[R, G, N, E]`` over states with weights ``[R, G, N, 1]`` or ``[G, N, E]``."""
    if weights.ndim == 4:
        return (weights.mT @ state).squeeze(-2)
    return (state * weights).sum(-2)


def _backward_chunk(terms: _Terms, grads: _Gradients, rows: slice, chunk: int, start: Tensor) -> None:
    """Recompute a chunk's states from its start, then run the recurrence of the gradients against time."""
    order = terms.order()[chunk * CHUNK_LENGTH : (chunk + 1) * CHUNK_LENGTH]
    steps = terms.steps(rows)
    states, decays = [start], []
    for at in order:
        dt, x, b, c = steps[at]
        decays.append(torch.mul(dt, terms.a).exp_())
        states.append(torch.mul(decays[-1], states[-1]).addcmul_(x, b))
        if grads.outputs is not None:
            grads.outputs[rows, at] = _over_states(states[-1], c)
    gradient, product = grads.state[rows], torch.empty_like(start)
    for k in reversed(range(len(order))):
        at = order[k]
        dt, x, b, c = steps[at]
        dy = grads.y[rows, at].unsqueeze(-2)  # [R, G, 1, E]
        gradient.addcmul_(dy, c)
        _add_outer(grads.c, rows, at, states[k + 1], dy)
        _add_outer(grads.b, rows, at, gradient, x)
        grads.x[rows, at] = _over_states(gradient, b)
        gradient.mul_(decays[k])
        torch.mul(gradient, states[k], out=product)
        grads.a[rows].addcmul_(product, dt)
        grads.dt[rows, at] = product.mul_(terms.a).sum(-2)


def _add_outer(total: Tensor, rows: slice, at: int, state: Tensor, signal: Tensor) -> None:
    """The gradient of b or c at one step: over channels where it varies in time, else over rows."""
    if total.ndim == 5:
        total[rows, at] = state @ signal.mT
    else:
        total.add_((state * signal).sum(0))
