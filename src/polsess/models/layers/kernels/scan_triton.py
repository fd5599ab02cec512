"""The selective scan as Triton kernels: states in registers, one program per row and block of channels.

The forward kernel keeps the state at the start of every chunk; the backward kernel recomputes the states of a
chunk into a scratch buffer, then runs the recurrence of the gradients against time. Gradients of B and C are
summed over the blocks of channels by atomic additions, so that their last bits vary from run to run.

Shapes: B batch, L length, D channels, N states; all sequences contiguous, float32.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from polsess.models.layers.kernels.scan_torch import CHUNK_LENGTH, ScanInputs, chunk_count

_BLOCK_CHANNELS = 32
_MAX_STATES = 64


def is_available(inputs: ScanInputs) -> bool:
    """Whether the kernels cover these inputs: one group, B and C over time, float32 states."""
    covered = inputs.b.ndim == inputs.c.ndim == 3 and inputs.a.shape[1] <= _MAX_STATES
    return covered and inputs.u.dtype != torch.float64


def forward(inputs: ScanInputs, keep_states: bool) -> tuple[Tensor, Tensor, Tensor | None]:
    """As ``scan_torch.forward``."""
    inputs = inputs.upcast()
    batch, length, channels = inputs.u.shape
    states = inputs.a.shape[1]
    y = torch.empty_like(inputs.u, memory_format=torch.contiguous_format)
    last = inputs.u.new_empty(batch, channels, states)
    kept = inputs.u.new_empty(batch, chunk_count(length), channels, states) if keep_states else None
    u, delta, a, b, c, d, z, bias, initial = _pointers(inputs)
    _forward_kernel[_grid(inputs)](
        *(u, delta, a, b, c, d, z, bias, initial, y, last, last if kept is None else kept),
        *(length, channels, states),
        **_options(inputs),
        HAS_INITIAL=inputs.initial_state is not None,
        KEEP=keep_states,
    )
    return y, last, kept


def backward(
    inputs: ScanInputs, kept: Tensor, grad_output: Tensor, grad_last: Tensor | None
) -> tuple[Tensor | None, ...]:
    """As ``scan_torch.backward``."""
    batch, length, channels = inputs.u.shape
    states = inputs.a.shape[1]
    u, delta, a, b, c, d, z, bias, _ = _pointers(inputs)
    sequences = [torch.empty_like(u) for _ in range(3)]  # of u, delta, z
    sums = [torch.zeros(each.shape, device=u.device) for each in (inputs.b, inputs.c)]
    grad_a, grad_initial = (u.new_empty(batch, channels, states) for _ in range(2))
    grad_d, grad_bias = (u.new_empty(batch, channels) for _ in range(2))
    scratch = u.new_empty(batch, CHUNK_LENGTH + 1, channels, states)
    _backward_kernel[_grid(inputs)](
        *(u, delta, a, b, c, d, z, bias, kept, scratch),
        *(grad_output.contiguous(), u if grad_last is None else grad_last.contiguous()),
        *(*sequences, *sums, grad_a, grad_d, grad_bias, grad_initial),
        *(length, channels, states, chunk_count(length)),
        **_options(inputs),
        HAS_LAST=grad_last is not None,
    )
    return (
        *(sequences[0], sequences[1], grad_a.sum(0), *sums),
        None if inputs.d is None else grad_d.sum(0),
        None if inputs.z is None else sequences[2],
        None if inputs.delta_bias is None else grad_bias.sum(0),
        None if inputs.initial_state is None else grad_initial,
    )


def _pointers(inputs: ScanInputs) -> list[Tensor]:
    """Contiguous tensors in the order of the fields; what is absent is never read."""
    unread = inputs.a
    return [(unread if each is None else each).contiguous() for each in inputs.tensors]


def _grid(inputs: ScanInputs) -> tuple[int, int]:
    return len(inputs.u), triton.cdiv(inputs.u.shape[2], _BLOCK_CHANNELS)


def _options(inputs: ScanInputs) -> dict[str, int | bool]:
    return {
        "HAS_SKIP": inputs.d is not None,
        "HAS_GATE": inputs.z is not None,
        "HAS_BIAS": inputs.delta_bias is not None,
        "SOFTPLUS": inputs.delta_softplus,
        "REVERSE": inputs.reverse,
        "CHUNK": CHUNK_LENGTH,
        "BLOCK": _BLOCK_CHANNELS,
        "STATES": triton.next_power_of_2(inputs.a.shape[1]),
    }


@triton.jit  # type: ignore[untyped-decorator]
def _step_size(raw, SOFTPLUS: tl.constexpr):  # type: ignore[no-untyped-def]
    if SOFTPLUS:
        e = tl.exp(tl.minimum(raw, 20.0))
        w = 1.0 + e  # log(1 + e) with full precision near 0: log(w) * e / (w - 1) where w > 1
        soft = tl.where(w == 1.0, e, tl.log(w) * e / tl.where(w == 1.0, 1.0, w - 1.0))
        return tl.where(raw > 20.0, raw, soft)
    return raw


@triton.jit  # type: ignore[untyped-decorator]
def _forward_kernel(  # type: ignore[no-untyped-def]
    u_ptr, delta_ptr, a_ptr, b_ptr, c_ptr, d_ptr, z_ptr, bias_ptr, initial_ptr, y_ptr, last_ptr, kept_ptr,
    length, channels, states,
    HAS_SKIP: tl.constexpr, HAS_GATE: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_INITIAL: tl.constexpr,
    SOFTPLUS: tl.constexpr, REVERSE: tl.constexpr, CHUNK: tl.constexpr, BLOCK: tl.constexpr,
    STATES: tl.constexpr, KEEP: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    d = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    n = tl.arange(0, STATES)
    d_in, n_in = d < channels, n < states
    inside = d_in[:, None] & n_in[None, :]
    matrix = d[:, None] * states + n[None, :]  # of a [D, N] tensor
    a = tl.load(a_ptr + matrix, inside, 0.0)
    h = tl.zeros((BLOCK, STATES), tl.float32)
    if HAS_INITIAL:
        h = tl.load(initial_ptr + row * channels * states + matrix, inside, 0.0)
    skip = tl.load(d_ptr + d, d_in, 0.0) if HAS_SKIP else 0.0
    bias = tl.load(bias_ptr + d, d_in, 0.0) if HAS_BIAS else 0.0
    num_chunks = (length + CHUNK - 1) // CHUNK
    for index in range(length):
        if KEEP:  # noqa: SIM102 (the compiler decides the first, the program the second)
            if index % CHUNK == 0:
                start = (row * num_chunks + index // CHUNK) * channels * states
                tl.store(kept_ptr + start + matrix, h, inside)
        at = row * length + (length - 1 - index if REVERSE else index)
        u = tl.load(u_ptr + at * channels + d, d_in, 0.0)
        dt = _step_size(tl.load(delta_ptr + at * channels + d, d_in, 0.0) + bias, SOFTPLUS)
        b = tl.load(b_ptr + at * states + n, n_in, 0.0)
        c = tl.load(c_ptr + at * states + n, n_in, 0.0)
        h = tl.exp(dt[:, None] * a) * h + (dt * u)[:, None] * b[None, :]
        y = tl.sum(h * c[None, :], 1) + skip * u
        if HAS_GATE:
            z = tl.load(z_ptr + at * channels + d, d_in, 0.0)
            y *= z * tl.sigmoid(z)
        tl.store(y_ptr + at * channels + d, y, d_in)
    tl.store(last_ptr + row * channels * states + matrix, h, inside)


@triton.jit  # type: ignore[untyped-decorator]
def _backward_kernel(  # type: ignore[no-untyped-def]
    u_ptr, delta_ptr, a_ptr, b_ptr, c_ptr, d_ptr, z_ptr, bias_ptr, kept_ptr, scratch_ptr,
    dy_ptr, dlast_ptr, du_ptr, ddelta_ptr, dz_ptr, db_ptr, dc_ptr, da_ptr, dd_ptr, dbias_ptr, dinitial_ptr,
    length, channels, states, num_chunks,
    HAS_SKIP: tl.constexpr, HAS_GATE: tl.constexpr, HAS_BIAS: tl.constexpr,
    SOFTPLUS: tl.constexpr, REVERSE: tl.constexpr, CHUNK: tl.constexpr, BLOCK: tl.constexpr,
    STATES: tl.constexpr, HAS_LAST: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    d = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    n = tl.arange(0, STATES)
    d_in, n_in = d < channels, n < states
    inside = d_in[:, None] & n_in[None, :]
    size = channels * states
    matrix = d[:, None] * states + n[None, :]
    a = tl.load(a_ptr + matrix, inside, 0.0)
    skip = tl.load(d_ptr + d, d_in, 0.0) if HAS_SKIP else 0.0
    bias = tl.load(bias_ptr + d, d_in, 0.0) if HAS_BIAS else 0.0
    g = tl.zeros((BLOCK, STATES), tl.float32)
    if HAS_LAST:
        g = tl.load(dlast_ptr + row * size + matrix, inside, 0.0)
    da = tl.zeros((BLOCK, STATES), tl.float32)
    dd, dbias = tl.zeros((BLOCK,), tl.float32), tl.zeros((BLOCK,), tl.float32)
    scratch = scratch_ptr + row * (CHUNK + 1) * size + matrix
    for back in range(num_chunks):
        chunk = num_chunks - 1 - back
        first = chunk * CHUNK
        steps = tl.minimum(CHUNK, length - first)
        h = tl.load(kept_ptr + (row * num_chunks + chunk) * size + matrix, inside, 0.0)
        tl.store(scratch, h, inside)
        for k in range(steps):
            at = row * length + (length - 1 - first - k if REVERSE else first + k)
            u = tl.load(u_ptr + at * channels + d, d_in, 0.0)
            dt = _step_size(tl.load(delta_ptr + at * channels + d, d_in, 0.0) + bias, SOFTPLUS)
            b = tl.load(b_ptr + at * states + n, n_in, 0.0)
            h = tl.exp(dt[:, None] * a) * h + (dt * u)[:, None] * b[None, :]
            tl.store(scratch + (k + 1) * size, h, inside)
        tl.debug_barrier()  # the states are read below, perhaps by other threads
        for backwards in range(steps):
            k = steps - 1 - backwards
            at = row * length + (length - 1 - first - k if REVERSE else first + k)
            u = tl.load(u_ptr + at * channels + d, d_in, 0.0)
            raw = tl.load(delta_ptr + at * channels + d, d_in, 0.0) + bias
            dt = _step_size(raw, SOFTPLUS)
            b = tl.load(b_ptr + at * states + n, n_in, 0.0)
            c = tl.load(c_ptr + at * states + n, n_in, 0.0)
            before = tl.load(scratch + k * size, inside, 0.0)
            after = tl.load(scratch + (k + 1) * size, inside, 0.0)
            dy = tl.load(dy_ptr + at * channels + d, d_in, 0.0)
            if HAS_GATE:
                z = tl.load(z_ptr + at * channels + d, d_in, 0.0)
                share = tl.sigmoid(z)
                y = tl.sum(after * c[None, :], 1) + skip * u
                tl.store(dz_ptr + at * channels + d, dy * y * share * (1.0 + z * (1.0 - share)), d_in)
                dy *= z * share
            g += dy[:, None] * c[None, :]
            tl.atomic_add(dc_ptr + at * states + n, tl.sum(dy[:, None] * after, 0), n_in)
            tl.atomic_add(db_ptr + at * states + n, tl.sum(g * (dt * u)[:, None], 0), n_in)
            dx = tl.sum(g * b[None, :], 1)
            g *= tl.exp(dt[:, None] * a)
            exponent = g * before
            da += exponent * dt[:, None]
            dd += dy * u
            tl.store(du_ptr + at * channels + d, dy * skip + dx * dt, d_in)
            ddelta = tl.sum(exponent * a, 1) + dx * u
            if SOFTPLUS:
                ddelta *= tl.where(raw > 20.0, 1.0, tl.sigmoid(raw))
            dbias += ddelta
            tl.store(ddelta_ptr + at * channels + d, ddelta, d_in)
        tl.debug_barrier()  # the next chunk overwrites the states
    tl.store(da_ptr + row * size + matrix, da, inside)
    tl.store(dinitial_ptr + row * size + matrix, g, inside)
    tl.store(dd_ptr + row * channels + d, dd, d_in)
    tl.store(dbias_ptr + row * channels + d, dbias, d_in)
