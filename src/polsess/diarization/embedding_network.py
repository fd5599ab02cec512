"""Whose voice: a small network that turns a piece of speech into a unit vector that names its speaker.

Depth-wise separable, dilated convolutions over log-mel frames with squeeze and excitation, then attentive
statistics (Desplanques, Thienpondt, Demuynck: "ECAPA-TDNN", Interspeech 2020, https://arxiv.org/abs/2005.07143),
at a fortieth of that network's size.

Shapes: B batch, T samples, L frames, N channels, D dimensions.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from polsess.diarization.features import LogSpectrum
from polsess.schema import Schema


class EmbeddingConfig(Schema):
    """Sizes of the network."""

    sample_rate: int = Field(default=8000, ge=4000, le=192_000)
    """Rate in Hz of what it hears."""
    n_fft: int = Field(default=256, ge=32, le=8192)
    hop_length: int = Field(default=80, ge=8, le=4096)
    num_mels: int = Field(default=48, ge=8, le=256)
    num_channels: int = Field(default=192, ge=16, le=2048)
    """N, of the convolutions."""
    dilations: tuple[int, ...] = (1, 2, 3, 4, 5)
    """Of the blocks; their number is that of the blocks."""
    dimensions: int = Field(default=128, ge=8, le=1024)
    """D, of the embedding."""


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


class EmbeddingNetwork(nn.Module):
    """Speech to speaker.

    Args:
        config: Sizes.
    """

    def __init__(self, config: EmbeddingConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.num_channels
        self.features = LogSpectrum(config.sample_rate, config.n_fft, config.hop_length, config.num_mels)
        self.input = nn.Sequential(
            nn.Conv1d(config.num_mels, channels, 5, padding=2), nn.ReLU(), nn.BatchNorm1d(channels)
        )
        self.blocks = nn.ModuleList(_Block(channels, dilation) for dilation in config.dilations)
        self.attention = nn.Sequential(
            nn.Conv1d(2 * channels, 64, 1), nn.Tanh(), nn.Conv1d(64, 2 * channels, 1)
        )
        self.output = nn.Sequential(
            nn.BatchNorm1d(4 * channels),
            nn.Linear(4 * channels, config.dimensions),
            nn.BatchNorm1d(config.dimensions),
        )

    def forward(self, speech: Tensor) -> Tensor:
        """Embeddings of unit length.

        Args:
            speech: ``[B, T]`` at ``config.sample_rate``, at any level; a second or more of one voice.

        Returns:
            ``[B, D]``; the cosine of two is high for one speaker.
        """
        features = self.features(speech)
        hidden = self.input(features - features.mean(-1, keepdim=True))  # [B, N, L]
        first = hidden
        for block in self.blocks:
            hidden = block(hidden)
        hidden = torch.cat([first, hidden], 1)  # [B, 2N, L]
        weights = self.attention(hidden).softmax(-1)
        mean = (weights * hidden).sum(-1)
        variance = (weights * hidden.square()).sum(-1) - mean.square()
        statistics = torch.cat([mean, variance.clamp_min(1e-6).sqrt()], 1)
        return nn.functional.normalize(self.output(statistics), dim=-1)
