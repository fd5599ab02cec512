"""The selective scan as a fixed number of steps for sequences of any length, for graphs without loops.

Within chunks the recurrence is unrolled; the states at the ends of chunks are combined by doubling, as an
associative operation (Blelloch: "Prefix sums and their applications", 1990): after step k each chunk knows
the 2^(k + 1) chunks before it.

Shapes: B batch, L length, D channels, N states, S chunks, K steps of a chunk.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_CHUNK, _DOUBLINGS = 16, 16
"""Steps of a chunk, and doublings: sequences of up to a million steps."""


def associative_scan(
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
    """As ``polsess.models.layers.selective_scan.selective_scan``, in memory of ``B L D N`` numbers.

    Raises:
        NotImplementedError: For matrices in groups or without a length, which no model here has.
    """
    if b.ndim != 3 or c.ndim != 3:
        raise NotImplementedError("a scan whose matrices are in groups or do not depend on time")
    step = delta if delta_bias is None else delta + delta_bias
    if delta_softplus:
        step = F.softplus(step)
    signal, step, into, out = (each.flip(1) if reverse else each for each in (u, step, b, c))
    gain = (signal * step)[..., None] * into[:, :, None]
    states = _states(torch.exp(step[..., None] * a), gain)
    y = (states * out[:, :, None]).sum(-1)  # [B, L, D]
    y = y.flip(1) if reverse else y
    if d is not None:
        y = y + u * d
    return y if z is None else y * F.silu(z)


def _states(decay: Tensor, gain: Tensor) -> Tensor:
    """The states ``h_t = decay_t h_(t-1) + gain_t``, all ``[B, L, D, N]``."""
    length = gain.shape[1]
    missing = _CHUNK - length % _CHUNK
    decay, gain = (
        F.pad(each, (0, 0, 0, 0, 0, missing)).unflatten(1, (-1, _CHUNK)) for each in (decay, gain)
    )  # [B, S, K, D, N]
    state, product = gain[:, :, 0], decay[:, :, 0]
    states, products = [state], [product]
    for index in range(1, _CHUNK):
        step = decay[:, :, index]
        state, product = step * state + gain[:, :, index], step * product
        states.append(state)
        products.append(product)
    before = _carried(product, state)
    whole = torch.stack(states, 2) + torch.stack(products, 2) * before[:, :, None]
    return whole.flatten(1, 2)[:, :length]


def _carried(product: Tensor, state: Tensor) -> Tensor:
    """The state before each chunk ``[B, S, D, N]``, from the decay and the state of each chunk alone."""
    for doubling in range(_DOUBLINGS):
        distance = 1 << doubling
        state, product = state + product * _later(state, distance), product * _later(product, distance)
    return _later(state, 1)


def _later(chunks: Tensor, distance: int) -> Tensor:
    """Chunks ``[B, S, D, N]`` moved back by a distance, however few they are, behind zeros."""
    source = torch.arange(chunks.shape[1], device=chunks.device) - distance
    return chunks[:, source.clamp(min=0)] * (source >= 0).to(chunks.dtype)[:, None, None]
