"""TDNN: whose voice, by depth-wise separable, dilated convolutions over mel frames and attentive statistics.

A time delay neural network with squeeze and excitation in the manner of Desplanques, Thienpondt, Demuynck
(2020), "ECAPA-TDNN", https://arxiv.org/abs/2005.07143, at a fortieth of that network's size.

Shapes: B batch, T samples, L frames, N channels, D dimensions.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from polsess.models.layers.log_spectrum import LogSpectrum, SpectrumConfig
from polsess.models.registry import register_model
from polsess.models.speakers.pooled import PooledEmbedder


class TDNNConfig(SpectrumConfig):
    """Sizes of the network."""

    model_type: Literal["tdnn"] = "tdnn"
    num_mels: int = Field(default=48, ge=1, le=256)
    """Triangular bands on the mel scale."""
    num_channels: int = Field(default=192, ge=4, le=2048)
    """N, of the convolutions."""
    dilations: tuple[Annotated[int, Field(ge=1, le=64)], ...] = Field(
        default=(1, 2, 3, 4, 5), min_length=1, max_length=32
    )
    """Frames between the taps of each block; as many blocks as there are numbers."""
    dimensions: int = Field(default=128, ge=1, le=1024)
    """D, of the embedding."""


@register_model("tdnn", TDNNConfig)
class TDNN(PooledEmbedder):
    """A convolution, residual blocks, and the mean and deviation over time of the first and the last."""

    config: TDNNConfig
    presets = {
        "tiny": {
            "n_fft": 64,
            "hop_length": 40,
            "num_mels": 12,
            "num_channels": 8,
            "dilations": [1, 2],
            "dimensions": 8,
        }
    }

    def __init__(self, config: TDNNConfig) -> None:
        super().__init__(config)
        channels = config.num_channels
        self.features = LogSpectrum(config, config.num_mels)
        self.input = nn.Sequential(
            nn.Conv1d(config.num_mels, channels, 5, padding=2), nn.ReLU(), nn.BatchNorm1d(channels)
        )
        self.blocks = nn.ModuleList(_Block(channels, dilation) for dilation in config.dilations)
        self.add_pooling(2 * channels)

    @property
    def dimensions(self) -> int:
        """D, of the embedding."""
        return self.config.dimensions

    def encode_frames(self, speech: Tensor) -> Tensor:
        features = self.features(speech)
        hidden = self.input(features - features.mean(-1, keepdim=True))  # [B, N, L]
        first = hidden
        for block in self.blocks:
            hidden = block(hidden)
        return torch.cat([first, hidden], 1)


class _Block(nn.Module):
    """Depth-wise separable convolution with squeeze and excitation around a residual."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(channels, channels, 1),
            nn.ReLU(),
            nn.BatchNorm1d(channels),
            nn.Conv1d(channels, channels, 5, padding=2 * dilation, dilation=dilation, groups=channels),
            nn.ReLU(),
            nn.BatchNorm1d(channels),
            nn.Conv1d(channels, channels, 1),
            nn.BatchNorm1d(channels),
        )
        self.squeeze = nn.Sequential(
            nn.Linear(channels, channels // 4),
            nn.ReLU(),
            nn.Linear(channels // 4, channels),
            nn.Sigmoid(),
        )

    def forward(self, hidden: Tensor) -> Tensor:
        output = self.layers(hidden)
        return hidden + output * self.squeeze(output.mean(-1)).unsqueeze(-1)
