"""CRNN: how many talk in every frame, by two convolutions over log spectra and recurrent layers both ways.

Convolutional recurrent networks for sound events: Cakir, Parascandolo, Heittola, Huttunen, Virtanen (2017),
https://arxiv.org/abs/1702.06286. The number of voices as the class of a frame: Stoeter, Chakrabarty, Edler,
Habets (2019), "CountNet", https://doi.org/10.1109/TASLP.2018.2877892. Here at a size for one CPU core.

Shapes: B batch, T samples, F bins, N channels, L frames.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from polsess.models.layers.log_spectrum import LogSpectrum, SpectrumConfig
from polsess.models.registry import register_model
from polsess.models.speakers.base import NUM_ACTIVITY_CLASSES, ActivityDetector


class CRNNConfig(SpectrumConfig):
    """Sizes of the network; a decision is made at every second frame."""

    model_type: Literal["crnn"] = "crnn"
    n_fft: int = Field(default=512, ge=32, le=8192)
    """Samples of a Hann-windowed frame; long enough to tell the harmonics of two voices apart."""
    num_channels: int = Field(default=96, ge=1, le=1024)
    """N, of the convolutions."""
    hidden_size: int = Field(default=72, ge=1, le=1024)
    """Units of each direction of the recurrent layers."""
    num_layers: int = Field(default=2, ge=1, le=8)
    """Recurrent layers."""
    dropout: float = Field(default=0.1, ge=0.0, lt=1.0)
    """Share of activations dropped in training before and between the recurrent layers."""


@register_model("crnn", CRNNConfig)
class CRNN(ActivityDetector):
    """Two convolutions, the second at half the rate, then bidirectional GRU layers."""

    config: CRNNConfig
    presets = {"tiny": {"n_fft": 64, "hop_length": 40, "num_channels": 8, "hidden_size": 6}}

    def __init__(self, config: CRNNConfig) -> None:
        super().__init__(config)
        self.features = LogSpectrum(config)
        channels = config.num_channels
        self.convolutions = nn.Sequential(
            nn.BatchNorm1d(self.features.num_features),
            nn.Conv1d(self.features.num_features, channels, 3, padding=1),
            nn.ReLU(),
            nn.BatchNorm1d(channels),
            nn.Conv1d(channels, channels, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.BatchNorm1d(channels),
            nn.Dropout(config.dropout),
        )
        self.recurrent = nn.GRU(
            channels,
            config.hidden_size,
            config.num_layers,
            batch_first=True,
            bidirectional=True,
            dropout=config.dropout if config.num_layers > 1 else 0.0,
        )
        self.to_classes = nn.Linear(2 * config.hidden_size, NUM_ACTIVITY_CLASSES)

    @property
    def hop_length(self) -> int:
        """Samples from one decision to the next."""
        return 2 * self.config.hop_length

    def classify_frames(self, mixture: Tensor) -> Tensor:
        hidden = self.convolutions(self.features(mixture))  # [B, N, L]
        output, _ = self.recurrent(hidden.mT)
        logits: Tensor = self.to_classes(output)
        return logits
