"""Weights and sounds by a formula, so that goldens of toolkits hold names, shapes and results alone."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

GOLDEN_RATIO = (1 + math.sqrt(5)) / 2


def formula_weight(name: str, shape: Sequence[int]) -> Tensor:
    """Values of a foreign tensor, which its name and shape determine; variances are positive."""
    if name.endswith("num_batches_tracked"):
        return torch.tensor(1)
    places = torch.arange(math.prod(shape), dtype=torch.float64)
    values = 0.4 * torch.sin(GOLDEN_RATIO * places * (1 + places / 997) + zlib.crc32(name.encode()) % 1000)
    if name.endswith("running_var"):
        values = values.abs() + 0.5
    if name.endswith("hz_"):
        values = 1000 * values
    return values.float().reshape(tuple(shape))


def formula_state(tensors: Mapping[str, Sequence[int] | str]) -> dict[str, Tensor]:
    """Tensors by their names; in place of a shape there may be the name of the tensor that it shares."""
    shapes = {key: shape for key, shape in tensors.items() if not isinstance(shape, str)}
    state = {key: formula_weight(key, shape) for key, shape in shapes.items()}
    return {key: state[shape if isinstance(shape, str) else key] for key, shape in tensors.items()}


def formula_sound(num_items: int, num_samples: int) -> Tensor:
    """A few tones in each of several items, ``[B, T]``."""
    time = torch.arange(num_samples, dtype=torch.float64)
    items = [
        sum(torch.sin((0.07 + item / 50) * rate * time + rate) for rate in (1, 3, 7))
        for item in range(num_items)
    ]
    return torch.stack([torch.as_tensor(item) for item in items]).float()
