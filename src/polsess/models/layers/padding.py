"""Normalisation over time that leaves the padding of a batch out, for features that are kept last in memory.

Shapes: B batch, L frames, N features.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Padding:
    """Mask of the real frames of a batch."""

    num_frames: Tensor
    """``[B, 1, 1]``."""
    mask: Tensor
    """``[B, L, 1]``, one where a frame is real, else zero."""

    @classmethod
    def of(cls, num_frames: Tensor, longest: int, dtype: torch.dtype) -> Padding:
        """From the frames ``[B]`` of each item."""
        real = torch.arange(longest, device=num_frames.device) < num_frames[:, None]
        mask = real.unsqueeze(-1).to(dtype)
        return cls(mask.sum(1, keepdim=True), mask)

    def apply(self, frames: Tensor) -> Tensor:
        """Frames ``[B, L, N]`` with zeros for padding."""
        return frames * self.mask.to(frames.dtype)


def cleared(frames: Tensor, padding: Padding | None) -> Tensor:
    """Frames with zeros for padding, if there is any."""
    return frames if padding is None else padding.apply(frames)


class UtteranceNorm(nn.Module):
    """Global layer normalisation: each item by the mean and variance over its features and real frames.

    Args:
        num_features: N.
        eps: Added to the variance.
    """

    over: tuple[int, ...] = (1, 2)
    """Dimensions that share their statistics."""

    def __init__(self, num_features: int, eps: float = 1e-8) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.eps = eps

    def forward(self, frames: Tensor, padding: Padding | None = None) -> Tensor:
        """Normalise.

        Args:
            frames: ``[B, L, N]``.
            padding: Which frames are real; None for all. The values of the others mean nothing.

        Returns:
            ``[B, L, N]``, at least float32.
        """
        frames = frames.to(torch.promote_types(frames.dtype, torch.float32))
        shared = frames.shape[-1] if 2 in self.over else 1
        count = padding.num_frames * shared if padding else frames.shape[1] * shared
        # Two plain sums: the library's fused variance over time is many times slower in this layout.
        centred = frames - cleared(frames, padding).sum(self.over, keepdim=True) / count
        variance = cleared(centred, padding).square().sum(self.over, keepdim=True) / count
        return torch.addcmul(self.bias, centred, (variance + self.eps).rsqrt() * self.weight)


class TimeNorm(UtteranceNorm):
    """Instance normalisation: each feature of each item by the mean and variance over its real frames.

    Args:
        num_features: N.
        eps: Added to the variance.
    """

    over = (1,)

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        super().__init__(num_features, eps)
