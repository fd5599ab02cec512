"""Sinusoidal encoding of the positions of tokens in a sequence, for transformers.

Vaswani et al. (2017), "Attention is all you need", section 3.5, https://arxiv.org/abs/1706.03762.

Shapes: L tokens, D features.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def sinusoidal_positions(
    num_positions: int,
    num_features: int,
    *,
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Sines in even and cosines in odd features, of wavelengths from 2 pi to 10000 * 2 pi.

    The values are those of single precision whatever the dtype: published models were trained with them.

    Args:
        num_positions: L, without an upper limit.
        num_features: D, even.
        device: Device of the table.
        dtype: Precision of the table.

    Returns:
        ``[L, D]``.

    Raises:
        ValueError: If D is odd.
    """
    if num_features % 2:
        raise ValueError(f"Sinusoidal positions need an even number of features, got {num_features}.")
    exponents = torch.arange(0, num_features, 2, device=device, dtype=torch.float32)
    frequencies = torch.exp(exponents * (-math.log(10000.0) / num_features))
    positions = torch.arange(num_positions, device=device, dtype=torch.float32)
    angles = positions.unsqueeze(1) * frequencies  # [L, D / 2]
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1).to(dtype)
