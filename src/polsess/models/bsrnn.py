"""BSRNN: recurrent networks along time and along the bands into which the spectrum is split.

Luo and Yu (2023), "Music source separation with band-split RNN", https://arxiv.org/abs/2209.15174. For
speech: Yu and Luo (2023), "Efficient monaural speech enhancement with universal sample rate band-split RNN",
https://arxiv.org/abs/2212.00406. Beside the complex spectrum, the network may hear its logarithmic magnitude.

Shapes: B batch, C sources, T samples, L frames, F frequency bins, M bands, W bins of a band, N features of a
band, R rows of S steps.
"""

from __future__ import annotations

import itertools
import math
from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from polsess.models.combination import ShiftsConfig, average_shifts
from polsess.models.layers.blocks import runs_in_blocks
from polsess.models.layers.norms import create_token_norm
from polsess.models.layers.products import Linear
from polsess.models.layers.recurrent import LSTM
from polsess.models.layers.spectral_model import SpectralConfig, TransformModel
from polsess.models.layers.stft import at_least_float32
from polsess.models.registry import register_model

_EPS = 2.0**-23
_FLOOR = 1e-3
"""Magnitude below the level of the mixture, as a ratio, that counts as silence."""
_STEPS_TOGETHER = 1 << 13
"""Steps of a recurrent network in one pass of inference, so that what it computes stays in cache."""


class BSRNNConfig(ShiftsConfig, SpectralConfig):
    """BSRNN; the defaults are the paper's sizes, with bands for speech at 8 kHz."""

    model_type: Literal["bsrnn"] = "bsrnn"
    band_edges_hz: tuple[float, ...] = (*range(125, 1000, 125), *range(1000, 4000, 250))
    """Where a band ends and the next begins, in Hz, each at the nearest bin; the last band holds the rest."""
    features: Literal["complex", "compressed"] = "complex"
    """What a band hears: real and imaginary parts as published, or these compressed, with the logarithm of
    the magnitude."""
    num_features: int = Field(default=128, ge=1)
    """N."""
    hidden_size: int = Field(default=256, ge=1)
    """Units of each direction along time."""
    band_hidden_size: int = Field(default=256, ge=1)
    """Units of each direction along the bands."""
    num_blocks: int = Field(default=12, ge=1, le=256)
    """Pairs of a network along time and one along the bands."""
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of the units of recurrent networks dropped in training, each for the whole of a sequence (Gal and
    Ghahramani, 2016, https://arxiv.org/abs/1512.05287)."""
    norm: Literal["gLN", "cLN"] = "gLN"
    """Before each recurrent network: over its whole sequence as published (gLN), or step by step (cLN)."""

    @model_validator(mode="after")
    def _bands_hold_bins(self) -> Self:
        if min(self.band_widths) < 1:
            raise ValueError(
                "band_edges_hz: expected rising edges from 0 to half the sample rate, at least a bin apart, "
                f"which is {self.sample_rate / self.n_fft:g} Hz wide (a larger n_fft has narrower bins)."
            )
        return self

    @property
    def band_widths(self) -> list[int]:
        """W, bins of every band."""
        edges = [round(hertz * self.n_fft / self.sample_rate) for hertz in self.band_edges_hz]
        return [high - low for low, high in itertools.pairwise([0, *edges, self.num_bins])]


class SequenceBlock(nn.Module):
    """A norm, a recurrent network that runs both ways, a projection and a residual connection.

    Args:
        config: The model's configuration.
        hidden_size: Units of each direction.
    """

    def __init__(self, config: BSRNNConfig, hidden_size: int) -> None:
        super().__init__()
        self.norm = create_token_norm(config.norm, config.num_features, _EPS)
        self.lstm = LSTM(config.num_features, hidden_size, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout1d(config.dropout)
        self.project = Linear(2 * hidden_size, config.num_features)

    def forward(self, rows: Tensor) -> Tensor:
        """Map ``[R, S, N]`` to ``[R, S, N]``; the rows do not see each other."""
        if not runs_in_blocks():
            return self._map(rows)
        return torch.cat([self._map(part) for part in rows.split(max(1, _STEPS_TOGETHER // rows.shape[1]))])

    def _map(self, rows: Tensor) -> Tensor:
        heard: Tensor = self.lstm(self.norm(rows))[0]
        return rows + self.project(self.dropout(heard.transpose(1, 2)).transpose(1, 2))


@register_model("bsrnn", BSRNNConfig)
class BSRNN(TransformModel):
    """Bands in, recurrent networks along time and along the bands in turn, complex masks out."""

    config: BSRNNConfig
    inference_dtype = torch.bfloat16
    reduced_training_on_cpu = "faster"
    presets = {
        "tiny": {
            "n_fft": 64,
            "hop_length": 32,
            "band_edges_hz": (500, 1000, 2000),
            "num_features": 8,
            "hidden_size": 6,
            "band_hidden_size": 5,
            "num_blocks": 2,
        },
        "paper": {},
        "small": {
            "hop_length": 128,
            "band_edges_hz": tuple(range(500, 4000, 500)),
            "features": "compressed",
            "num_features": 64,
            "hidden_size": 96,
            "band_hidden_size": 64,
            "num_blocks": 3,
            "norm": "cLN",
        },
    }

    def __init__(self, config: BSRNNConfig) -> None:
        super().__init__(config)
        features, parts = config.num_features, 3 if config.features == "compressed" else 2
        self.split = nn.ModuleList(
            nn.Sequential(create_token_norm("gLN", parts * width, _EPS), Linear(parts * width, features))
            for width in config.band_widths
        )
        self.along_time = nn.ModuleList(
            SequenceBlock(config, config.hidden_size) for _ in range(config.num_blocks)
        )
        self.along_bands = nn.ModuleList(
            SequenceBlock(config, config.band_hidden_size) for _ in range(config.num_blocks)
        )
        self.masks = nn.ModuleList(
            nn.Sequential(
                create_token_norm(config.norm, features, _EPS),
                Linear(features, 4 * features),
                nn.Tanh(),
                Linear(4 * features, 2 * config.num_sources * 2 * width),
                nn.GLU(),
            )
            for width in config.band_widths
        )

    def estimate_sources(self, mixture: Tensor) -> Tensor:
        num_shifts = 1 if self.training else self.config.num_shifts
        return average_shifts(self._separate, mixture, self.config.hop_length, num_shifts)

    def _separate(self, mixture: Tensor) -> Tensor:
        """One pass, ``[B, T]`` -> ``[B, C, T]``."""
        spectrum = self.transform.analyse(mixture)  # [B, L, F]
        bands = self._hear(spectrum).split(self.config.band_widths, 2)
        rows = torch.stack([split(band.flatten(2)) for split, band in zip(self.split, bands, strict=True)], 1)
        for along_time, along_bands in zip(self.along_time, self.along_bands, strict=True):
            rows = along_time(rows.flatten(0, 1)).view(rows.shape)  # [B, M, L, N]
            frames = rows.transpose(1, 2)
            rows = along_bands(frames.flatten(0, 1)).view(frames.shape).transpose(1, 2)
        masks = torch.cat(
            [self._mask(mask(row)) for mask, row in zip(self.masks, rows.unbind(1), strict=True)], 3
        )
        return self.transform.synthesise(masks * spectrum[:, None], mixture.shape[-1])

    def _hear(self, spectrum: Tensor) -> Tensor:
        """What the bands are told of each bin, ``[B, L, F]`` -> ``[B, L, F, 2]`` or ``[B, L, F, 3]``."""
        magnitude = spectrum.abs().unsqueeze(-1)
        level = magnitude.square().mean((1, 2), keepdim=True).clamp_min(1e-16).sqrt()
        parts = torch.view_as_real(spectrum) / level
        if self.config.features == "compressed":
            relative = magnitude / level
            logarithm = 1 + 2 * torch.log(relative + _FLOOR) / -math.log(
                _FLOOR
            )  # 1 at the level, -1 below the floor
            parts = torch.cat([logarithm, parts * relative.clamp_min(1e-8).pow(-0.7)], -1)
        return parts.to(next(self.parameters()).dtype)

    def _mask(self, parts: Tensor) -> Tensor:
        """Complex masks of a band, ``[B, L, C * W * 2]`` -> ``[B, C, L, W]``."""
        parts = at_least_float32(parts).unflatten(-1, (self.output_sources, -1, 2)).transpose(1, 2)
        return torch.view_as_complex(parts.contiguous())
