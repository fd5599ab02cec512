"""SR-CorrNet: filters over neighbouring bins, found from correlations, for a known or an unknown number.

Shin, Park (2026), "Asymmetric encoder-decoder based on time-frequency correlation for speech separation",
https://arxiv.org/abs/2603.29097; the layout is that of the authors' published models. The features are
computed without gradient, as published: a gradient reaches the mixture through the filtered spectrum alone.
Published weights were trained on a scale-invariant loss, so the level of their estimates is arbitrary; the
separation of recordings finds the levels.

Shapes: B batch, C sources, T samples, L frames, F frequency bins, D channels of the grid, K taps of a filter,
Q queries, S tokens.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from polsess.models.base import ModelConfig, SeparationModel, SpeakerCounts
from polsess.models.layers.gated_attention import AttractorLayer, GridBlock, RMSNorm, Sizes, SpeakerBlock
from polsess.models.layers.positions import RotaryRates, sinusoids
from polsess.models.layers.products import Linear
from polsess.models.layers.stft import at_least_float32, without_autocast
from polsess.models.registry import register_model

Reach = tuple[int, int]
"""Neighbours before and behind."""

_EPS = 1e-12


class SRCorrNetConfig(ModelConfig):
    """SR-CorrNet; the defaults are the published model B for two speakers, of 13.6 M parameters."""

    model_type: Literal["srcorrnet"] = "srcorrnet"
    num_sources: int = Field(default=2, ge=1, le=16)
    """C; with ``variable_sources`` the most that there can be."""
    variable_sources: bool = False
    """Whether the network says how many speakers there are."""
    n_fft: int = Field(default=128, ge=4, le=1 << 14, multiple_of=4)
    """Samples of a frame."""
    hop_length: int = Field(default=64, ge=1)
    """Samples between frames: a half or a quarter of a frame."""
    frequency_taps: Reach = (1, 1)
    """Neighbouring bins that are correlated with each bin and filtered: lower, higher."""
    frame_taps: Reach = (1, 1)
    """Neighbouring frames: past, future."""
    num_channels: int = Field(default=128, ge=8, multiple_of=4)
    """D, a multiple of 2 ``num_heads``."""
    hidden_size: int = Field(default=384, ge=1)
    """Of the feed-forward networks along frequency and time."""
    speaker_hidden_size: int = Field(default=512, ge=1)
    """Of the feed-forward networks across speakers."""
    kernel_size: int = Field(default=3, ge=1, le=255)
    """Odd; of the convolutions in the feed-forward networks."""
    encoder_kernel: tuple[int, int] = (3, 3)
    """Frames and bins that the first two convolutions see; odd."""
    num_heads: int = Field(default=4, ge=1)
    """H."""
    num_encoder_blocks: int = Field(default=2, ge=0, le=64)
    """Blocks before the speakers part."""
    num_decoder_blocks: int = Field(default=4, ge=1, le=64)
    """Blocks with each speaker on its own grid."""
    frequency_positions: bool = True
    """Whether sinusoids tell the bins apart."""
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of attention weights and hidden features dropped in training."""

    @property
    def num_bins(self) -> int:
        """F."""
        return self.n_fft // 2 + 1

    @property
    def num_taps(self) -> int:
        """K."""
        return (sum(self.frequency_taps) + 1) * (sum(self.frame_taps) + 1)

    @property
    def sizes(self) -> Sizes:
        """Of the attentions and feed-forward networks."""
        return Sizes(self.num_channels, self.num_heads, self.dropout)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.n_fft not in (2 * self.hop_length, 4 * self.hop_length):
            raise ValueError(
                f"hop_length={self.hop_length}: expected a half or a quarter of n_fft={self.n_fft}."
            )
        if self.num_channels % (2 * self.num_heads):
            raise ValueError(
                f"num_channels={self.num_channels} must be a multiple of 2 num_heads={2 * self.num_heads}."
            )
        odd = (self.kernel_size, *self.encoder_kernel)
        if any(size % 2 == 0 or not 1 <= size <= 255 for size in odd):
            raise ValueError(
                f"kernel_size={self.kernel_size}, encoder_kernel={self.encoder_kernel}: expected odd numbers "
                "from 1 to 255."
            )
        for name, reach in (("frequency_taps", self.frequency_taps), ("frame_taps", self.frame_taps)):
            if not all(0 <= each <= 16 for each in reach):
                raise ValueError(f"{name}={reach}: expected two numbers from 0 to 16.")
        return self


@register_model("srcorrnet", SRCorrNetConfig)
class SRCorrNet(SeparationModel):
    """Correlations in, attention along frequency, time and speakers, filters over neighbouring bins out."""

    config: SRCorrNetConfig
    presets = {
        "tiny": {
            "n_fft": 32,
            "hop_length": 16,
            "num_channels": 16,
            "hidden_size": 12,
            "speaker_hidden_size": 12,
            "num_heads": 2,
            "num_encoder_blocks": 1,
            "num_decoder_blocks": 1,
        },
        "small": {"num_channels": 96, "hidden_size": 256, "speaker_hidden_size": 384},
        "base": {},
        "base_3speakers": {"num_sources": 3},
        "large": {
            "num_channels": 192,
            "hidden_size": 512,
            "speaker_hidden_size": 768,
            "num_encoder_blocks": 3,
            "num_decoder_blocks": 5,
        },
        "variable_3": {"num_sources": 3, "variable_sources": True},
        "variable_5": {"num_sources": 5, "variable_sources": True},
        "whamr": {"n_fft": 256, "frame_taps": [3, 3], "hidden_size": 256, "kernel_size": 5},
    }

    def __init__(self, config: SRCorrNetConfig) -> None:
        super().__init__(config)
        self.encoder = CorrelationEncoder(config)
        rotation = RotaryRates(config.num_channels // config.num_heads)  # one for all, as published
        block = partial(GridBlock, config.sizes, config.hidden_size, config.kernel_size, rotation)
        across = partial(SpeakerBlock, config.sizes, config.speaker_hidden_size)
        self.encoder_blocks = nn.ModuleList(block() for _ in range(config.num_encoder_blocks))
        self.split = AttractorSplit(config) if config.variable_sources else FixedSplit(config)
        self.norm = nn.LayerNorm(config.num_channels)
        self.decoder_blocks = nn.ModuleList(block() for _ in range(config.num_decoder_blocks))
        self.speaker_blocks = nn.ModuleList(across() for _ in range(config.num_decoder_blocks))
        self.filters = Linear(config.num_channels, 3 * config.num_taps)
        self.auxiliary_filters = nn.ModuleList(
            Linear(config.num_channels, 3 * config.num_taps) for _ in range(config.num_decoder_blocks)
        )

    @property
    def hop_length(self) -> int:
        return self.config.hop_length

    @property
    def minimum_samples(self) -> int:
        """One frame."""
        return self.config.n_fft

    @property
    def counts_speakers(self) -> bool:
        return self.config.variable_sources

    def estimate_sources(self, mixture: Tensor) -> Tensor:
        uncounted = mixture.is_meta or torch.compiler.is_compiling()  # no numbers to count with
        if not self.counts_speakers or self.training or uncounted:
            return self._estimate(mixture)[0]
        return self.estimate_counted(mixture, None)[0]

    def estimate_counted(
        self, mixture: Tensor, num_speakers: Tensor | None
    ) -> tuple[Tensor, SpeakerCounts | None]:
        if not self.counts_speakers:
            return super().estimate_counted(mixture, num_speakers)
        waves, presence = self._estimate_each(mixture, num_speakers)
        return waves[0], SpeakerCounts.from_presence(presence.sigmoid(), self.output_sources)

    def estimate_present(self, mixture: Tensor, num_speakers: Tensor) -> tuple[Tensor, list[Tensor], Tensor]:
        if not self.counts_speakers:
            return super().estimate_present(mixture, num_speakers)
        waves, presence = self._estimate_each(mixture, num_speakers, with_auxiliary=True)
        return waves[0], waves[1:], presence

    def estimate_with_auxiliary(self, mixture: Tensor) -> tuple[Tensor, list[Tensor]]:
        return self._estimate(mixture, with_auxiliary=True)

    def _estimate_each(
        self, mixture: Tensor, num_speakers: Tensor | None, *, with_auxiliary: bool = False
    ) -> tuple[list[Tensor], Tensor]:
        """Estimates as ``_estimate`` of the speakers of each item, and the logits that they are there."""
        assert isinstance(self.split, AttractorSplit)
        spectrum, level = self._analyse(mixture)
        grid = self._encode(spectrum)
        attractors, presence = self.split.attract(grid)
        counts = SpeakerCounts.from_presence(presence[:, 1:].sigmoid(), self.output_sources)
        items = []
        for row, number in enumerate((counts.numbers if num_speakers is None else num_speakers).tolist()):
            one = slice(row, row + 1)  # each item has grids of its own
            if number == 0:
                silence = torch.zeros_like(spectrum[one, None])
                waves = [self._synthesise(silence)] * (1 + with_auxiliary * len(self.decoder_blocks))
            else:
                grids = self.split.part(grid[one], attractors[one, 1 : number + 1])
                waves = self._render(grids, spectrum[one], with_auxiliary=with_auxiliary)
            missing = self.output_sources - waves[0].shape[1]
            items.append([F.pad(each, (0, 0, 0, missing)) * level[one].unsqueeze(-1) for each in waves])
        return [torch.cat(each) for each in zip(*items, strict=True)], presence[:, 1:]

    def _estimate(self, mixture: Tensor, *, with_auxiliary: bool = False) -> tuple[Tensor, list[Tensor]]:
        """All C sources, and one estimate more for the input of every block of the decoder."""
        spectrum, level = self._analyse(mixture)
        grids = self.split(self._encode(spectrum))
        waves = self._render(grids, spectrum, with_auxiliary=with_auxiliary)
        return waves[0] * level.unsqueeze(-1), [each * level.unsqueeze(-1) for each in waves[1:]]

    def _render(self, grids: Tensor, spectrum: Tensor, *, with_auxiliary: bool) -> list[Tensor]:
        """Waves of the grids ``[B, C, L, F, D]`` at unit level, then those of the decoder's inputs."""
        grids, inputs = self._decode(grids, keep_inputs=with_auxiliary)
        heads = [self.filters, *self.auxiliary_filters][: 1 + len(inputs)]
        return [
            self._synthesise(self._filter(each, spectrum, head))
            for each, head in zip((grids, *inputs), heads, strict=True)
        ]

    def _encode(self, spectrum: Tensor) -> Tensor:
        """Spectrum ``[B, L, F]`` to the grid ``[B, L, F, D]`` that all speakers share."""
        grid = self.encoder(spectrum)
        for block in self.encoder_blocks:
            grid = block(grid)
        return grid

    def _decode(self, grids: Tensor, *, keep_inputs: bool) -> tuple[Tensor, list[Tensor]]:
        """Refine ``[B, C, L, F, D]``; also the inputs of the blocks, if asked for."""
        inputs = []
        grids = self.norm(grids)
        for block, across in zip(self.decoder_blocks, self.speaker_blocks, strict=True):
            if keep_inputs:
                inputs.append(grids)
            grids = block(grids.flatten(0, 1)).view(grids.shape)
            grids = across(grids)
        return grids, inputs

    def _filter(self, grids: Tensor, spectrum: Tensor, head: Linear | nn.Module) -> Tensor:
        """Sum of the taps ``[B, C, L, F]``, each times the filter that the head reads from the grid."""
        size, real, imaginary = at_least_float32(head(grids)).unflatten(-1, (-1, 3)).unbind(-1)
        size = F.softplus(size)
        filters = torch.complex(size * real.tanh(), size * imaginary.tanh())  # [B, C, L, F, K]
        filtered = torch.zeros_like(filters[..., 0])
        for index, tap in enumerate(_taps(spectrum, self.config)):
            filtered = filtered + filters[..., index] * tap.unsqueeze(1)
        return filtered

    def _analyse(self, mixture: Tensor) -> tuple[Tensor, Tensor]:
        """Spectrum ``[B, L, F]`` at unit level, and level ``[B, 1]``; samples after the last frame fall."""
        with without_autocast(mixture):
            mixture = at_least_float32(mixture)
            level = mixture.std(-1, keepdim=True) + 1e-8
            frames = (mixture / level).unfold(-1, self.config.n_fft, self.config.hop_length)
            return torch.fft.rfft(frames * _window(self.config, frames)), level

    def _synthesise(self, spectra: Tensor) -> Tensor:
        """Waves ``[B, C, T']`` by the adjoint of the analysis: of the ends of the spectrum it takes twice."""
        with without_autocast(spectra):
            doubled = torch.cat([2 * spectra[..., :1], spectra[..., 1:-1], 2 * spectra[..., -1:]], -1)
            frames = torch.fft.irfft(doubled, n=self.config.n_fft) * (self.config.n_fft / 2)
            frames = frames * _window(self.config, frames)
            total = (frames.shape[-2] - 1) * self.config.hop_length + self.config.n_fft
            folded = F.fold(
                frames.flatten(0, 1).mT,
                (1, total),
                (1, self.config.n_fft),
                stride=(1, self.config.hop_length),
            )
            return folded.view(*spectra.shape[:2], total)


class CorrelationEncoder(nn.Module):
    """The spectrum and its correlations with its neighbours as a grid.

    Args:
        config: The model's configuration.
    """

    def __init__(self, config: SRCorrNetConfig) -> None:
        super().__init__()
        self.config = config
        channels, kernel = config.num_channels, config.encoder_kernel
        padding = (kernel[0] // 2, kernel[1] // 2)
        self.expand = nn.Conv2d(2 * config.num_taps, 4 * channels, kernel, padding=padding)
        self.reduce = nn.Conv2d(4 * channels, channels, kernel, padding=padding)
        self.norm = RMSNorm(channels)

    def forward(self, spectrum: Tensor) -> Tensor:
        """Map ``[B, L, F]`` to ``[B, L, F, D]``."""
        with torch.no_grad():
            features = torch.stack(list(self._features(spectrum)), -1)  # [B, L, F, 2K]
        features = features.to(self.expand.weight.dtype).permute(0, 3, 1, 2)
        grid = self.norm(self.reduce(F.silu(self.expand(features))).permute(0, 2, 3, 1))
        if self.config.frequency_positions:
            grid = grid + sinusoids(grid.shape[2], grid.shape[3], grid)
        return grid

    def _features(self, spectrum: Tensor) -> Iterator[Tensor]:
        """Products with the bin itself and its neighbours, their magnitudes under a square root."""
        level = (spectrum.abs().square().mean(1, keepdim=True) + _EPS).sqrt()
        for tap in _taps(spectrum, self.config):
            one, other = spectrum / level, tap / level
            correlation = one * other.conj() / (one.abs() * other.abs() + _EPS).sqrt()
            yield correlation.real
            yield correlation.imag


class FixedSplit(nn.Module):
    """One grid into a fixed number of grids.

    Args:
        config: The model's configuration.
    """

    def __init__(self, config: SRCorrNetConfig) -> None:
        super().__init__()
        self.num_sources = config.num_sources
        hidden = 4 * config.num_channels * config.num_sources
        self.expand = Linear(config.num_channels, hidden)
        self.reduce = Linear(hidden, config.num_channels * config.num_sources)

    def forward(self, grid: Tensor) -> Tensor:
        """Map ``[B, L, F, D]`` to ``[B, C, L, F, D]``."""
        parts = self.reduce(F.silu(self.expand(grid)))
        return parts.unflatten(-1, (-1, self.num_sources)).movedim(-1, 1)


class AttractorSplit(nn.Module):
    """One grid into as many grids as speakers are found: queries attend to the grid and become attractors.

    Args:
        config: The model's configuration.
    """

    def __init__(self, config: SRCorrNetConfig) -> None:
        super().__init__()
        channels = config.num_channels
        self.num_sources = config.num_sources
        # The first attractor is no speaker; one more than there can be says that there are no more.
        self.queries = nn.Parameter(torch.randn(config.num_sources + 2, channels) * channels**-0.5)
        self.norm = nn.LayerNorm(channels)
        self.layers = nn.ModuleList(AttractorLayer(config.sizes) for _ in range(2))
        self.presence = Linear(channels, 1)
        self.expand = Linear(2 * channels, 4 * channels)
        self.reduce = Linear(4 * channels, channels)

    def forward(self, grid: Tensor) -> Tensor:
        """Map ``[B, L, F, D]`` to the grids of all C speakers that there can be, ``[B, C, L, F, D]``."""
        attractors, _ = self.attract(grid)
        return self.part(grid, attractors[:, 1 : self.num_sources + 1])

    def attract(self, grid: Tensor) -> tuple[Tensor, Tensor]:
        """Attractors of unit length ``[B, Q, D]``, and logits that each is a speaker, ``[B, Q]``."""
        features = grid.shape[-1] // 2
        rows = sinusoids(grid.shape[1], features, grid)[:, None].expand(-1, grid.shape[2], -1)
        columns = sinusoids(grid.shape[2], features, grid).expand(grid.shape[1], -1, -1)
        keys = (self.norm(grid) + torch.cat([rows, columns], -1)).flatten(1, 2)
        queries = self.queries.expand(grid.shape[0], -1, -1)
        for layer in self.layers:
            queries = layer(queries, keys)
        attractors = F.normalize(queries, dim=-1)
        return attractors, at_least_float32(self.presence(attractors)).squeeze(-1)

    def part(self, grid: Tensor, attractors: Tensor) -> Tensor:
        """The grid ``[B, L, F, D]`` of each of the attractors ``[B, C, D]``: ``[B, C, L, F, D]``."""
        shape = (grid.shape[0], attractors.shape[1], *grid.shape[1:])
        both = [grid[:, None].expand(shape), attractors[:, :, None, None].expand(shape)]
        return self.reduce(F.silu(self.expand(torch.cat(both, -1))))


def _taps(spectrum: Tensor, config: SRCorrNetConfig) -> Iterator[Tensor]:
    """The spectrum ``[B, L, F]`` moved by bins, then by frames; zeros beyond its edges."""
    (past, future), (lower, higher) = config.frame_taps, config.frequency_taps
    padded = F.pad(spectrum, (lower, higher, past, future))
    for column in range(lower + higher + 1):
        for row in range(past + future + 1):
            yield padded[:, row : row + spectrum.shape[1], column : column + spectrum.shape[2]]


def _window(config: SRCorrNetConfig, like: Tensor) -> Tensor:
    """The window over the scale of the transform, by which analysis and its adjoint give back a frame."""
    window = torch.hann_window(config.n_fft, dtype=like.dtype, device=like.device)
    size, hop = config.n_fft, config.hop_length
    if size == 2 * hop:
        return window.sqrt() * (2 * math.sqrt(hop) / size)
    return window * (math.sqrt(2 / 3) * 2 * math.sqrt(2) * math.sqrt(hop) / size)
