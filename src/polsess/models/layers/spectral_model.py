"""Base of every model that maps a complex spectrum: level, analysis, grid network, synthesis.

Source: TF-GridNet, Wang et al. (2023), https://arxiv.org/abs/2211.12433; SPMamba and TF-Locoformer kept it.

Shapes: B batch, C sources, T samples, L frames, F frequency bins, D channels of the grid.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from polsess.models.base import ModelConfig, SeparationModel
from polsess.models.layers.stft import STFT, WindowName, at_least_float32, signal_level, without_autocast


class SpectralConfig(ModelConfig):
    """The transform of a spectral model; its own fields follow in its own file."""

    n_fft: int = Field(default=256, ge=4)
    """Samples of a frame; even."""
    hop_length: int = Field(default=64, ge=1)
    """Samples between frames, at most half a frame."""
    window: WindowName = "hann"
    """Window of analysis and synthesis."""

    @model_validator(mode="after")
    def _frames_overlap(self) -> Self:
        self.create_transform()
        return self

    def create_transform(self) -> STFT:
        """Analysis and synthesis.

        Raises:
            ValueError: If the frames do not overlap by half.
        """
        return STFT(self.n_fft, self.hop_length, self.window)

    @property
    def num_bins(self) -> int:
        """F, the frequencies from 0 to half the sample rate."""
        return self.n_fft // 2 + 1


class TransformModel(SeparationModel):
    """Sees the spectrum of the mixture.

    Args:
        config: The configuration.
    """

    config: SpectralConfig

    def __init__(self, config: SpectralConfig) -> None:
        super().__init__(config)
        self.transform = config.create_transform()

    @property
    def hop_length(self) -> int:
        """Samples between spectral frames."""
        return self.config.hop_length

    @property
    def minimum_samples(self) -> int:
        """The shortest mixture that can be padded by reflection."""
        return self.transform.minimum_samples


class SpectralModel(TransformModel):
    """Maps the complex spectrum of the mixture to those of the sources, without masks.

    The first and the last convolution run in float32 under autocast: they are cheap, and the range of a
    spectrum is wide.

    Args:
        config: The configuration.
        num_channels: D.
        eps: Added to the variance in the norm after the first convolution.
        normalize_variance: Whether the network sees the mixture at unit variance; the estimates come back at
            the mixture's level either way.
    """

    def __init__(
        self, config: SpectralConfig, num_channels: int, *, eps: float, normalize_variance: bool = True
    ) -> None:
        super().__init__(config)
        self.normalize_variance = normalize_variance
        self.conv = nn.Conv2d(2, num_channels, 3, padding=1)
        self.norm = nn.GroupNorm(1, num_channels, eps=eps)
        self.deconv = nn.ConvTranspose2d(num_channels, 2 * config.num_sources, 3, padding=1)

    @abstractmethod
    def map_grid(self, grid: Tensor) -> Tensor:
        """The network proper, ``[B, L, F, D]`` -> ``[B, L, F, D]``."""

    def estimate_sources(self, mixture: Tensor) -> Tensor:
        level = signal_level(mixture) if self.normalize_variance else mixture.new_ones(mixture.shape[0], 1)
        grid = self.map_grid(self._encode(mixture / level))
        return self._decode(grid, mixture.shape[-1]) * level.unsqueeze(-1)

    def _encode(self, mixture: Tensor) -> Tensor:
        spectrum = torch.view_as_real(self.transform.analyse(mixture))  # [B, L, F, 2]
        with without_autocast(mixture):
            grid = self.conv(spectrum.to(self.conv.weight.dtype).permute(0, 3, 1, 2))  # [B, D, L, F]
            return self.norm(grid).permute(0, 2, 3, 1)  # [B, L, F, D]

    def _decode(self, grid: Tensor, num_samples: int) -> Tensor:
        with without_autocast(grid):
            grid = self.deconv(grid.to(self.deconv.weight.dtype).permute(0, 3, 1, 2))  # [B, 2C, L, F]
            parts = at_least_float32(grid).unflatten(1, (self.output_sources, 2)).permute(0, 1, 3, 4, 2)
            spectra = torch.view_as_complex(parts.contiguous())  # [B, C, L, F]
        return self.transform.synthesise(spectra, num_samples)
