"""Changes of log spectra in training: other pitch and throat, other microphone, bands that are missing.

Warps in the manner of Jaitly, Hinton (2013), "Vocal tract length perturbation (VTLP) improves speech
recognition"; masks of Park et al. (2019), "SpecAugment", https://arxiv.org/abs/1904.08779.

Shapes: B batch, F bands, L frames.
"""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional as F

_EQUALISER_POINTS = 7
"""Points of a random equaliser over the bands, lines between them."""


class SpectrumAugmentationConfig(BaseModel):
    """How spectra are changed, each example by its own draw; zeros leave them as they are."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    warp: float = Field(default=0.1, ge=0.0, le=0.5)
    """Bands move by factors of up to ``1 - warp`` to ``1 + warp``."""
    equaliser: float = Field(default=1.0, ge=0.0, le=10.0)
    """Standard deviation of a smooth gain over the bands, in nepers of power."""
    gain: float = Field(default=0.5, ge=0.0, le=10.0)
    """Standard deviation of a gain of all bands, in nepers of power."""
    num_masks: int = Field(default=2, ge=0, le=16)
    """Ranges of bands that are silenced."""
    mask_share: float = Field(default=0.1, ge=0.0, le=0.5)
    """Widest mask, as a share of the bands."""


def augment_spectrum(features: Tensor, config: SpectrumAugmentationConfig) -> Tensor:
    """Change log spectra in which zero is silence, by PyTorch's random generator.

    Args:
        features: ``[B, F, L]``, zero or more.
        config: What may happen.

    Returns:
        The same shape, zero or more.
    """
    batch, bands, _ = features.shape
    if config.warp:
        features = _warp(features, torch.empty(batch, 1).uniform_(1 - config.warp, 1 + config.warp))
    if config.equaliser or config.gain:
        points = config.equaliser * torch.randn(batch, 1, _EQUALISER_POINTS)
        curve = F.interpolate(points, bands, mode="linear", align_corners=True)[:, 0, :, None]
        curve = curve + config.gain * torch.randn(batch, 1, 1)
        features = (features + curve.to(features)).clamp_min(0.0)
    band = torch.arange(bands)
    for _ in range(config.num_masks):
        width = torch.randint(0, round(config.mask_share * bands) + 1, (batch, 1))
        first = (torch.rand(batch, 1) * (bands - width)).long()
        masked = (band >= first) & (band < first + width)  # [B, F]
        features = features.masked_fill(masked.unsqueeze(-1).to(features.device), 0.0)
    return features


def _warp(features: Tensor, factors: Tensor) -> Tensor:
    """Read band ``k`` at ``k * factor``, between two bands: ``[B, F, L]`` and ``[B, 1]``."""
    bands, frames = features.shape[1:]
    place = (torch.arange(bands) * factors).clamp(max=bands - 1)  # [B, F]
    below = place.long().clamp(max=max(bands - 2, 0))
    share = (place - below).unsqueeze(-1).to(features)
    lower = below.unsqueeze(-1).expand(-1, -1, frames).to(features.device)
    upper = (lower + 1).clamp(max=bands - 1)
    return features.gather(1, lower) * (1 - share) + features.gather(1, upper) * share
