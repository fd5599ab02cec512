"""CRNN: how many talk in every frame, by convolutions over mel frames and recurrent layers both ways.

Convolutional recurrent networks for sound events: Cakir, Parascandolo, Heittola, Huttunen, Virtanen (2017),
https://arxiv.org/abs/1702.06286. The number of voices as the class of a frame: Stoeter, Chakrabarty, Edler,
Habets (2019), "CountNet", https://doi.org/10.1109/TASLP.2018.2877892. Here at a size for one CPU core; the
convolutions move over frequency too, so that what was learned of one pitch holds for others.

Shapes: B batch, T samples, F mel bands, N channels, L frames.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from polsess.models.layers.log_spectrum import LogSpectrum, SpectrumConfig
from polsess.models.layers.recurrent import GRU
from polsess.models.layers.spectrum_augmentation import SpectrumAugmentationConfig, augment_spectrum
from polsess.models.registry import register_model
from polsess.models.speakers.base import NUM_ACTIVITY_CLASSES, ActivityDetector


class CRNNConfig(SpectrumConfig):
    """Sizes of the network; a decision is made at every second frame."""

    model_type: Literal["crnn"] = "crnn"
    n_fft: int = Field(default=512, ge=32, le=8192)
    """Samples of a Hann-windowed frame; long enough to tell the harmonics of two voices apart."""
    num_mels: int = Field(default=80, ge=8, le=512)
    """F, triangular bands on the mel scale."""
    num_channels: int = Field(default=32, ge=2, le=512)
    """N, of the second and third convolution; the first has half as many."""
    frame_size: int = Field(default=96, ge=1, le=1024)
    """Features of a frame before the recurrent layers."""
    hidden_size: int = Field(default=72, ge=1, le=1024)
    """Units of each direction of the recurrent layers."""
    num_layers: int = Field(default=2, ge=1, le=8)
    """Recurrent layers."""
    dropout: float = Field(default=0.3, ge=0.0, lt=1.0)
    """Share of activations dropped in training before, between and after the features of a frame."""
    augmentation: SpectrumAugmentationConfig = SpectrumAugmentationConfig()
    """How spectra are changed in training."""


@register_model("crnn", CRNNConfig)
class CRNN(ActivityDetector):
    """Three convolutions over frequency and time, the first at half the rate, then GRU layers both ways."""

    config: CRNNConfig
    presets = {
        "tiny": {
            "n_fft": 64,
            "hop_length": 40,
            "num_mels": 8,
            "num_channels": 4,
            "frame_size": 8,
            "hidden_size": 6,
        }
    }

    def __init__(self, config: CRNNConfig) -> None:
        super().__init__(config)
        self.features = LogSpectrum(config, config.num_mels)
        self.norm = nn.BatchNorm1d(config.num_mels)
        channels = config.num_channels
        self.convolutions = nn.Sequential(
            _convolution(1, channels // 2, 5, (2, 2)),
            _convolution(channels // 2, channels, 3, (2, 1)),
            _convolution(channels, channels, 3, (2, 1)),
        )
        self.to_frames = nn.Sequential(
            nn.Dropout(config.dropout),
            nn.Linear(channels * -(-config.num_mels // 8), config.frame_size),
            nn.ReLU(),
            nn.Dropout(config.dropout),
        )
        self.recurrent = GRU(
            config.frame_size,
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
        features = self.features(mixture)
        if self.training:
            features = augment_spectrum(features, self.config.augmentation)
        hidden = self.convolutions(self.norm(features).unsqueeze(1))  # [B, N, F / 8, L]
        frames = self.to_frames(hidden.permute(0, 3, 2, 1).flatten(2))
        output, _ = self.recurrent(frames)
        logits: Tensor = self.to_classes(output)
        return logits


def _convolution(inputs: int, outputs: int, size: int, stride: tuple[int, int]) -> nn.Sequential:
    """A convolution over frequency and time with its norm."""
    layer = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU())
