"""Samples as arrays; where a caller has tensors of torch, they are arrays in between.

Nothing here imports torch unless it is given a tensor: sound is read, resampled and written without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

Samples = NDArray[np.float32]
"""Sound as an array, full scale at 1; a docstring gives its shape."""
AnySamples = TypeVar("AnySamples", Samples, "Tensor")
"""Sound as an array or as a tensor of torch; what is given back is of the kind that was given."""


def as_samples(samples: Samples | Tensor) -> Samples:
    """An array in float32, on the CPU."""
    if isinstance(samples, np.ndarray):
        return np.asarray(samples, np.float32)
    array: Samples = samples.detach().cpu().float().numpy()
    return array


def in_kind(samples: Samples, given: AnySamples) -> AnySamples:
    """An array as a tensor where a tensor was given."""
    return samples if isinstance(given, np.ndarray) else as_tensor(samples)


def as_tensor(samples: Samples) -> Tensor:
    """A tensor of torch that shares the memory of an array."""
    import torch

    return torch.from_numpy(samples)
