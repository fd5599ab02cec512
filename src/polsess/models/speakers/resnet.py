"""ResNet: whose voice, by residual convolutions over mel frames and attentive statistics.

He, Zhang, Ren, Sun (2016), "Deep residual learning for image recognition", https://arxiv.org/abs/1512.03385,
with few channels, as for speakers in Chung et al. (2020), "In defence of metric learning for speaker
recognition", https://arxiv.org/abs/2003.11982. The convolutions move over frequency too, so that what
was learned of one pitch holds for others.

Shapes: B batch, T samples, F mel bands, L frames, N channels times bands, D dimensions.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from polsess.models.layers.log_spectrum import LogSpectrum, SpectrumConfig
from polsess.models.layers.spectrum_augmentation import SpectrumAugmentationConfig, augment_spectrum
from polsess.models.registry import register_model
from polsess.models.speakers.pooled import PooledEmbedder


class ResNetConfig(SpectrumConfig):
    """Sizes of the network; every stage but the first halves frames and bands."""

    model_type: Literal["resnet"] = "resnet"
    num_mels: int = Field(default=48, ge=8, le=256)
    """F, triangular bands on the mel scale."""
    channels: tuple[Annotated[int, Field(ge=1, le=1024)], ...] = Field(
        default=(16, 32, 64, 96), min_length=1, max_length=5
    )
    """Channels of each stage."""
    blocks: tuple[Annotated[int, Field(ge=1, le=32)], ...] = Field(
        default=(1, 2, 2, 2), min_length=1, max_length=5
    )
    """Blocks of each stage, of two convolutions."""
    dimensions: int = Field(default=128, ge=1, le=1024)
    """D, of the embedding."""
    augmentation: SpectrumAugmentationConfig = SpectrumAugmentationConfig(warp=0.0)
    """How spectra are changed in training; a warp would make another voice of it."""

    @model_validator(mode="after")
    def _stages_agree(self) -> ResNetConfig:
        if len(self.channels) != len(self.blocks):
            raise ValueError(
                f"channels has {len(self.channels)} stages and blocks {len(self.blocks)}; give as many."
            )
        return self


@register_model("resnet", ResNetConfig)
class ResNet(PooledEmbedder):
    """Stages of residual blocks over frequency and time, and the mean and deviation of the last over time."""

    config: ResNetConfig
    presets = {
        "tiny": {
            "n_fft": 64,
            "hop_length": 40,
            "num_mels": 12,
            "channels": [4, 8],
            "blocks": [1, 1],
            "dimensions": 8,
        }
    }

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__(config)
        self.features = LogSpectrum(config, config.num_mels)
        self.input = _convolution(1, config.channels[0], 1)
        stages, inputs, bands = [], config.channels[0], config.num_mels
        for stage, (outputs, count) in enumerate(zip(config.channels, config.blocks, strict=True)):
            for block in range(count):
                stride = 2 if stage and not block else 1
                stages.append(_Block(inputs, outputs, stride))
                inputs, bands = outputs, -(-bands // stride)
        self.stages = nn.Sequential(*stages)
        self.add_pooling(inputs * bands)

    @property
    def dimensions(self) -> int:
        """D, of the embedding."""
        return self.config.dimensions

    def encode_frames(self, speech: Tensor) -> Tensor:
        features = self.features(speech)
        if self.training:
            features = augment_spectrum(features, self.config.augmentation)
        features = (features - features.mean(-1, keepdim=True)).unsqueeze(1)
        hidden = F.relu(self.input(features.to(memory_format=torch.channels_last)))
        frames: Tensor = self.stages(hidden).flatten(1, 2)
        return frames


class _Block(nn.Module):
    """Two convolutions around a residual, which is brought to their shape where that changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            _convolution(inputs, outputs, stride), nn.ReLU(), _convolution(outputs, outputs, 1)
        )
        self.shortcut = (
            nn.Identity() if (inputs, stride) == (outputs, 1) else _convolution(inputs, outputs, stride, 1)
        )

    def forward(self, hidden: Tensor) -> Tensor:
        output: Tensor = F.relu(self.layers(hidden) + self.shortcut(hidden))
        return output


def _convolution(inputs: int, outputs: int, stride: int, size: int = 3) -> nn.Sequential:
    """A convolution over frequency and time with its norm."""
    layer = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs))
