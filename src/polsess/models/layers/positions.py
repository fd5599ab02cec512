"""Positions of tokens: sinusoids that are added, or rotations of queries and keys.

Vaswani et al. (2017), "Attention is all you need", section 3.5, https://arxiv.org/abs/1706.03762. Su et al.
(2021), "RoFormer", https://arxiv.org/abs/2104.09864: a product of two sees only their distance.

Shapes: L frames or tokens, D features of a token, a query or a key, R rotated features.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class RotaryRates(nn.Module):
    """The rates of the rotations. They are not trained, but published files hold them and count them.

    Args:
        num_features: R, even.
    """

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.rates = nn.Parameter(inverse_frequencies(num_features), requires_grad=False)

    def forward(self, num_frames: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """The tables of ``rotary_tables``."""
        return rotary_tables(self.rates, num_frames, like)


def rotary_tables(rates: Tensor, num_frames: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the angles: position times rate, from position 0.

    Args:
        rates: As ``inverse_frequencies`` gives them, ``[R / 2]``.
        num_frames: L.
        like: Gives the device and the precision; the angles themselves are float32, as in published models.

    Returns:
        Two tables ``[L, R / 2]``.
    """
    positions = torch.arange(num_frames, device=like.device, dtype=torch.float32)
    angles = positions[:, None] * rates.to(like.device, torch.float32)
    angles = angles.to(torch.promote_types(like.dtype, torch.float32))
    return angles.cos().to(like.dtype), angles.sin().to(like.dtype)


def inverse_frequencies(num_features: int, device: torch.device | None = None) -> Tensor:
    """The geometric series 10000^(-2i / R), ``[R / 2]``, in float32."""
    exponents = torch.arange(0, num_features, 2, device=device, dtype=torch.float32) / num_features
    return 1.0 / 10000.0**exponents


def rotate(features: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Rotate the first R of D features in pairs; the others pass.

    Args:
        features: ``[..., D]``; the pairs are neighbours, 2i and 2i + 1.
        cosines: ``[..., R / 2]``; its leading dimensions may be 1 where those of ``features`` are not.
        sines: As ``cosines``.

    Returns:
        ``[..., D]``.
    """
    num_rotated = 2 * cosines.shape[-1]
    rotated, passed = features[..., :num_rotated], features[..., num_rotated:]
    first, second = rotated.unflatten(-1, (-1, 2)).unbind(-1)
    pairs = (first * cosines - second * sines, second * cosines + first * sines)
    return torch.cat([torch.stack(pairs, -1).flatten(-2), passed], -1)


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


def sinusoids(num_positions: int, num_features: int, like: Tensor) -> Tensor:
    """Sines in the first half of the features, cosines in the second, ``[num_positions, num_features]``."""
    half = num_features // 2
    exponents = torch.arange(half, device=like.device, dtype=torch.float32) / max(1, half - 1)
    positions = torch.arange(num_positions, device=like.device, dtype=torch.float32)
    angles = positions[:, None] * 10000.0**-exponents
    return torch.cat([angles.sin(), angles.cos()], -1).to(like.dtype)
