"""BLSTM: spectral masks from a bidirectional LSTM, trained with utterance-level permutation invariance.

Kolbaek, Yu, Tan, Jensen (2017), "Multitalker speech separation with utterance-level permutation invariant
training of deep recurrent neural networks", https://arxiv.org/abs/1703.06284. The masks are real and act on
the complex spectrum of the mixture; unlike the paper, the waveform is what the loss looks at.

Shapes: B batch, C sources, T samples, F frequency bins, L frames.
"""

from __future__ import annotations

from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from polsess.models.base import SeparationModel
from polsess.models.combination import ShiftsConfig, average_shifts
from polsess.models.layers.masks import activate_masks
from polsess.models.layers.products import Linear
from polsess.models.layers.recurrent import LSTM
from polsess.models.layers.stft import STFT
from polsess.models.registry import register_model


class BLSTMConfig(ShiftsConfig):
    """Spectral masking with a BLSTM; the defaults are the paper's layer count at 8 kHz."""

    model_type: Literal["blstm"] = "blstm"
    n_fft: int = Field(default=256, ge=4)
    """Samples of a Hann-windowed frame; even."""
    hop_length: int = Field(default=128, ge=1)
    """Samples between frames, at most half a frame."""
    hidden_size: int = Field(default=896, ge=1)
    """Units of each direction."""
    num_layers: int = Field(default=3, ge=1)
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of activations dropped between layers in training."""
    mask_activation: Literal["sigmoid", "relu", "softmax"] = "sigmoid"
    """Softmax runs over the sources, so that the masks sum to one; for a single source it is a sigmoid."""

    @model_validator(mode="after")
    def _frames_overlap(self) -> Self:
        STFT(self.n_fft, self.hop_length)
        return self


@register_model("blstm", BLSTMConfig)
class BLSTM(SeparationModel):
    """One real mask per source on the mixture's complex spectrum; the phase is the mixture's."""

    config: BLSTMConfig
    inference_dtype = torch.bfloat16
    reduced_training_on_cpu = "faster in tiles"
    cpu_batch = 4
    window: Tensor
    presets = {
        "tiny": {"n_fft": 64, "hop_length": 32, "hidden_size": 12, "num_layers": 2},
        "small": {"hidden_size": 250, "num_layers": 2, "dropout": 0.1},
    }

    def __init__(self, config: BLSTMConfig) -> None:
        super().__init__(config)
        bins = config.n_fft // 2 + 1  # F
        self.norm = nn.GroupNorm(1, bins)  # over the whole utterance: the level does not matter
        self.rnn = LSTM(
            bins,
            config.hidden_size,
            config.num_layers,
            batch_first=True,
            dropout=config.dropout if config.num_layers > 1 else 0.0,
            bidirectional=True,
        )
        self.to_masks = Linear(2 * config.hidden_size, config.num_sources * bins)
        self.register_buffer("window", torch.hann_window(config.n_fft), persistent=False)

    @property
    def hop_length(self) -> int:
        """Samples between spectral frames."""
        return self.config.hop_length

    def estimate_sources(self, mixture: Tensor) -> Tensor:
        num_shifts = 1 if self.training else self.config.num_shifts
        return average_shifts(self._separate, mixture, self.config.hop_length, num_shifts)

    def _separate(self, mixture: Tensor) -> Tensor:
        """One pass, ``[B, T]`` -> ``[B, C, T]``."""
        n_fft, hop = self.config.n_fft, self.config.hop_length
        spectrum = torch.stft(  # [B, F, L]
            mixture, n_fft, hop, window=self.window, pad_mode="constant", return_complex=True
        )
        magnitude = spectrum.abs()
        level = magnitude.square().mean(dim=(1, 2), keepdim=True).clamp_min(1e-16).sqrt()
        features = self.norm(torch.log(magnitude / level + 1e-3))  # [B, F, L]
        hidden, _ = self.rnn(features.mT)  # [B, L, 2H]
        logits = self.to_masks(hidden).unflatten(-1, (self.output_sources, -1))  # [B, L, C, F]
        masks = activate_masks(logits.permute(0, 2, 3, 1), self.config.mask_activation)  # [B, C, F, L]
        sources = masks * spectrum.unsqueeze(1)
        waves = torch.istft(sources.flatten(0, 1), n_fft, hop, window=self.window, length=mixture.shape[-1])
        return waves.unflatten(0, (-1, self.output_sources))  # [B, C, T]
