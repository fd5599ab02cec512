"""Mixing the channels of a sound, also where they cancel each other.

Shapes: K channels, T samples.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from polsess.audio.samples import AnySamples, Samples, as_samples, in_kind

_FEWEST = 1000
_CANCELLED = 0.1
"""Share of the power of unrelated channels below which their mix counts as cancelled."""


def to_mono(samples: AnySamples, name: Path | str) -> AnySamples:
    """Mix channels ``[K, T]`` to ``[T]`` by ``channel_weights``."""
    if len(samples) == 1:
        return samples[0]
    rows = as_samples(samples)
    exact = rows.astype(np.float64)
    return in_kind(channel_weights(exact @ exact.T, rows.shape[1], name) @ rows, samples)


def channel_weights(products: NDArray[np.float64], num_samples: int, name: Path | str) -> Samples:
    """Weights of the channels of a sound in their mix, ``[K]``.

    These are equal, unless the channels cancel each other, as in a stereo file with one inverted channel.
    Then those that oppose the loudest one are inverted, and a warning says so.

    Args:
        products: Sums of products of the samples of every two channels, ``[K, K]``.
        num_samples: T; below 1000 the channels may oppose each other by chance, and stay as they are.
        name: Name of the sound for the warning.
    """
    count = len(products)
    weights = np.full(count, 1 / count, np.float32)
    power = products.diagonal().mean()
    if num_samples < _FEWEST or products.sum() / count**2 >= _CANCELLED * power / count:
        return weights
    loudest = int(products.diagonal().argmax())
    warnings.warn(
        f"{name}: its channels cancel each other when mixed; those that oppose channel {loudest + 1} are "
        "inverted (--channels each separates every channel by itself).",
        stacklevel=3,
    )
    return np.where(products[loudest] < 0, -weights, weights)
