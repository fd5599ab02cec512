"""SepReformer: a U-net over time that splits the speakers early and lets them attend to each other.

Shin et al. (2024), "Separate and reconstruct: asymmetric encoder-decoder for speech separation",
https://arxiv.org/abs/2406.05983. With linear attention: "FLASepformer" (2025), https://arxiv.org/abs/2508.19528.

Shapes: B batch, C sources, T samples, N filters, L frames, F features, H heads, Q frames at the bottom.
"""

from __future__ import annotations

from functools import partial
from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from polsess.models.layers.blocks import map_near_frames
from polsess.models.layers.depthwise import DepthwiseConv, gated_conv
from polsess.models.layers.filterbank import synthesise
from polsess.models.layers.filterbank_model import FilterbankModel, StridedFilterbankConfig
from polsess.models.layers.focused_attention import FocusedOptions
from polsess.models.layers.padding import UtteranceNorm
from polsess.models.layers.products import Linear, linear
from polsess.models.layers.relative_attention import RelativeAttention
from polsess.models.layers.stft import without_autocast
from polsess.models.registry import register_model


class SepReformerConfig(StridedFilterbankConfig, FocusedOptions):
    """Separation encoder and reconstruction decoder; the defaults are the published Base size."""

    model_type: Literal["sepreformer"] = "sepreformer"
    stride: int | None = Field(default=4, ge=1)
    num_features: int = Field(default=128, ge=1)
    """F, features of a frame."""
    num_stages: int = Field(default=4, ge=1)
    """R, halvings of the frame rate."""
    num_heads: int = Field(default=8, ge=1)
    """H."""
    attention: Literal["relative", "focused"] = "relative"
    """Of the global blocks: over averaged frames with relative positions, or linear over all frames."""
    max_distance: int = Field(default=2000, ge=1)
    """Distance in frames at the lowest rate beyond which all distances are one to the attention."""
    local_kernel_size: int = Field(default=65, ge=1)
    """Taps of the local blocks' convolution, odd."""
    sampling_kernel_size: int = Field(default=5, ge=1)
    """Taps of the convolution that halves the frame rate, odd."""
    shared_split: bool = True
    """Whether all stages split the speakers by the same layer."""
    dropout: float = Field(default=0.05, ge=0.0, lt=1.0)
    """Share of activations and attention weights dropped in training."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.num_features % self.num_heads:
            raise ValueError(f"num_heads must divide num_features {self.num_features}, got {self.num_heads}")
        self.check_focused(self.num_features)
        for name in ("local_kernel_size", "sampling_kernel_size"):
            if getattr(self, name) % 2 == 0:
                raise ValueError(f"{name} must be odd, got {getattr(self, name)}")
        return self


@register_model("sepreformer", SepReformerConfig)
class SepReformer(FilterbankModel):
    """A learned filterbank, whose frames a U-net with early speaker split maps to the sources' frames."""

    config: SepReformerConfig
    inference_dtype = torch.bfloat16
    presets = {
        "tiny": {
            "num_filters": 16,
            "num_features": 8,
            "num_stages": 2,
            "num_heads": 2,
            "max_distance": 12,
            "local_kernel_size": 5,
            "sampling_kernel_size": 3,
            "dropout": 0.0,
        },
        "base": {},
        "large": {"num_features": 256, "dropout": 0.1},
        "focused_base": {"attention": "focused"},
        "focused_large": {"attention": "focused", "num_features": 256, "dropout": 0.1},
        "large-wham": {"num_features": 256, "dropout": 0.1, "shared_split": False},
    }

    def __init__(self, config: SepReformerConfig) -> None:
        super().__init__(config)
        filters, features, stages = config.num_filters, config.num_features, config.num_stages
        self.encoder = nn.Conv1d(1, filters, config.kernel_size, config.hop_length, bias=False)
        self.norm = UtteranceNorm(filters)
        self.project = Linear(filters, features, bias=False)
        self.distances = nn.Parameter(torch.randn(2 * config.max_distance, features // config.num_heads))
        if config.attention == "focused":  # published files hold them in any case
            self.distances.requires_grad_(False)
        self.down_stages = nn.ModuleList(Stage(config, num_blocks=2) for _ in range(stages))
        self.halvings = nn.ModuleList(Halving(features, config.sampling_kernel_size) for _ in range(stages))
        self.bottom = Stage(config, num_blocks=2)
        num_splits = 1 if config.shared_split else stages + 1
        self.splits = nn.ModuleList(Split(features, config.num_sources) for _ in range(num_splits))
        self.fusions = nn.ModuleList(Fusion(features) for _ in range(stages))
        self.up_stages = nn.ModuleList(Stage(config, num_blocks=3, speakers=True) for _ in range(stages))
        self.output = OutputHead(config)
        self.auxiliary = nn.ModuleList(OutputHead(config) for _ in range(stages))

    @property
    def length_multiple(self) -> int:
        """Whole strides, as the authors of each kind pad recordings or do not."""
        return self.hop_length if self.config.attention == "relative" else 1

    def estimate_sources(self, mixture: Tensor) -> Tensor:
        encoded = self._encode(mixture)
        return self.output(self._separate(encoded)[-1][:, : encoded.shape[1]])

    def estimate_with_auxiliary(self, mixture: Tensor) -> tuple[Tensor, list[Tensor]]:
        """As in the base class; one auxiliary estimate per stage, from the lowest frame rate up."""
        encoded = self._encode(mixture)
        *stages, last = self._separate(encoded)
        auxiliary = [head(stage, encoded) for head, stage in zip(self.auxiliary, stages, strict=True)]
        return self.output(last[:, : encoded.shape[1]]), auxiliary

    def _encode(self, mixture: Tensor) -> Tensor:
        """``[B, T]`` to ``[B, L, N]``."""
        with without_autocast(mixture):
            return F.gelu(self.encoder(mixture.unsqueeze(1))).mT.contiguous()

    def _separate(self, encoded: Tensor) -> list[Tensor]:
        """Frames of every source, ``[B*C, L', F]``: what enters each up-stage, then the last output."""
        frames = self.project(self.norm(encoded))
        frames = F.pad(frames, (0, 0, 0, -frames.shape[1] % 2**self.config.num_stages))
        skips = []
        for index, (stage, halving) in enumerate(zip(self.down_stages, self.halvings, strict=True)):
            frames = stage(frames, self.distances, 2 ** (self.config.num_stages - index))
            skips.append(self.splits[index % len(self.splits)](frames))
            frames = halving(frames)
        outputs = [self.splits[-1](self.bottom(frames, self.distances, 1))]
        for index, (fusion, stage) in enumerate(zip(self.fusions, self.up_stages, strict=True)):
            fused = fusion(outputs[-1], skips.pop())
            outputs.append(stage(fused, self.distances, 2 ** (index + 1)))
        return outputs


class Stage(nn.Module):
    """Global and local blocks in turn at one frame rate, in a decoder with the speakers attending.

    Args:
        config: The model's configuration.
        num_blocks: How often the blocks alternate.
        speakers: Whether the sources of a frame attend to each other after each pair.
    """

    def __init__(self, config: SepReformerConfig, num_blocks: int, *, speakers: bool = False) -> None:
        super().__init__()
        count = range(num_blocks)
        global_block = GlobalBlock if config.attention == "relative" else FocusedBlock
        self.global_blocks = nn.ModuleList(global_block(config) for _ in count)
        self.local_blocks = nn.ModuleList(LocalBlock(config) for _ in count)
        self.speaker_blocks = nn.ModuleList(SpeakerBlock(config) for _ in count if speakers)

    def forward(self, frames: Tensor, distances: Tensor, factor: int) -> Tensor:
        """``[B, L, F]`` to ``[B, L, F]``.

        Args:
            frames: L is a multiple of ``factor``.
            distances: The table of relative positions.
            factor: Frames that the global attention takes as one.
        """
        for index, global_block in enumerate(self.global_blocks):
            frames = self.local_blocks[index](global_block(frames, distances, factor))
            if self.speaker_blocks:
                frames = self.speaker_blocks[index](frames)
        return frames


class GlobalBlock(nn.Module):
    """Efficient global attention: over averaged frames, its result gated at the full rate."""

    def __init__(self, config: SepReformerConfig) -> None:
        super().__init__()
        features = config.num_features
        self.attention = RelativeAttention(features, config.num_heads, config.dropout)
        self.gate = nn.Sequential(nn.LayerNorm(features), Linear(features, features), nn.Sigmoid())
        self.feed_forward = ConvolvedFeedForward(features, config.dropout)

    def forward(self, frames: Tensor, distances: Tensor, factor: int) -> Tensor:
        """``[B, L, F]`` to ``[B, L, F]``; ``factor`` divides L."""
        blocks = frames.unflatten(1, (-1, factor))  # [B, Q, factor, F]
        attended = self.attention(blocks.mean(2), distances)
        gated = self.gate(frames).view(blocks.shape) * attended.unsqueeze(2)
        return _in_blocks(self.feed_forward, frames + gated.flatten(1, 2), self.feed_forward.reach)


class FocusedBlock(nn.Module):
    """Linear attention over all frames in the place of the efficient global attention."""

    def __init__(self, config: SepReformerConfig) -> None:
        super().__init__()
        features = config.num_features
        self.attention = config.create_focused(features, features, config.num_heads)
        self.feed_forward = ConvolvedFeedForward(features, config.dropout)

    def forward(self, frames: Tensor, distances: Tensor, factor: int) -> Tensor:
        """``[B, L, F]`` to ``[B, L, F]``."""
        del distances, factor  # neither positions nor averages
        return _in_blocks(self.feed_forward, self.attention(frames), self.feed_forward.reach)


class LocalBlock(nn.Module):
    """Convolutional local attention: a gated projection, a long filter per feature, another projection."""

    def __init__(self, config: SepReformerConfig) -> None:
        super().__init__()
        features = config.num_features
        self.norm = nn.LayerNorm(features)
        self.gated = Linear(features, 2 * features)
        self.conv = DepthwiseConv(features, config.local_kernel_size, bias=True)
        self.expand = Linear(features, 2 * features)
        self.batch_norm = nn.BatchNorm1d(2 * features)
        self.reduce = nn.Sequential(nn.GELU(), Linear(2 * features, features), nn.Dropout(config.dropout))
        self.scale = nn.Parameter(torch.full((features,), 1e-5))
        self.feed_forward = ConvolvedFeedForward(features, config.dropout)

    def forward(self, frames: Tensor) -> Tensor:
        """``[B, L, F]`` to ``[B, L, F]``."""
        reach = self.conv.weight.shape[-1] // 2 + self.feed_forward.reach
        return _in_blocks(self._filter, frames, reach)

    def _filter(self, frames: Tensor) -> Tensor:
        filtered = self.conv(F.glu(self.gated(self.norm(frames))))
        expanded = self.batch_norm(self.expand(filtered).flatten(0, 1)).unflatten(0, frames.shape[:2])
        output: Tensor = self.feed_forward(torch.addcmul(frames, self.scale, self.reduce(expanded)))
        return output


class SpeakerBlock(nn.Module):
    """The sources of each frame attend to each other."""

    def __init__(self, config: SepReformerConfig) -> None:
        super().__init__()
        self.num_sources = config.num_sources
        self.attention = RelativeAttention(config.num_features, config.num_heads, config.dropout)
        self.feed_forward = ConvolvedFeedForward(config.num_features, config.dropout)

    def forward(self, frames: Tensor) -> Tensor:
        """``[B*C, L, F]`` to ``[B*C, L, F]``."""
        return _in_blocks(self._exchange, frames, self.feed_forward.reach, self.num_sources)

    def _exchange(self, frames: Tensor) -> Tensor:
        sources = frames.unflatten(0, (-1, self.num_sources)).transpose(1, 2)  # [B, L, C, F]
        attended = self.attention(sources.flatten(0, 1)).view(sources.shape).transpose(1, 2)
        output: Tensor = self.feed_forward(frames + attended.flatten(0, 1))
        return output


_in_blocks = partial(map_near_frames, block_frames=1 << 13)  # smaller ones reread the weights too often


class ConvolvedFeedForward(nn.Module):
    """A gated feed-forward network with a short filter per feature, and its residual."""

    reach = 1
    """Frames before and after its own that an output depends on."""

    def __init__(self, num_features: int, dropout: float) -> None:
        super().__init__()
        self.expand = nn.Sequential(nn.LayerNorm(num_features), Linear(num_features, 6 * num_features))
        self.conv = DepthwiseConv(6 * num_features, 3, bias=True)
        self.reduce = nn.Sequential(
            nn.GLU(), nn.Dropout(dropout), Linear(3 * num_features, num_features), nn.Dropout(dropout)
        )
        self.scale = nn.Parameter(torch.full((num_features,), 1e-5))

    def forward(self, frames: Tensor) -> Tensor:
        """``[B, L, F]`` to ``[B, L, F]``."""
        gated = gated_conv(self.expand(frames), self.conv.weight, self.conv.bias)
        return torch.addcmul(frames, self.scale, self.reduce[1:](gated))


class Halving(nn.Module):
    """Half the frame rate: a filter per feature, batch normalisation and GELU."""

    def __init__(self, num_features: int, kernel_size: int) -> None:
        super().__init__()
        self.conv = DepthwiseConv(num_features, kernel_size, bias=True)
        self.norm = nn.BatchNorm1d(num_features)

    def forward(self, frames: Tensor) -> Tensor:
        """``[B, 2 L, F]`` to ``[B, L, F]``."""
        halved = self.conv(frames)[:, ::2]
        return F.gelu(self.norm(halved.flatten(0, 1))).unflatten(0, halved.shape[:2])


class Split(nn.Module):
    """Frames of the mixture to frames of every source."""

    def __init__(self, num_features: int, num_sources: int) -> None:
        super().__init__()
        self.num_sources = num_sources
        width = num_features * num_sources
        self.layers = nn.Sequential(Linear(num_features, 4 * width), nn.GLU(), Linear(2 * width, width))
        self.norm = UtteranceNorm(num_features)

    def forward(self, frames: Tensor) -> Tensor:
        """``[B, L, F]`` to ``[B*C, L, F]``."""
        sources = self.layers(frames).unflatten(-1, (self.num_sources, -1))  # [B, L, C, F]
        output: Tensor = self.norm(sources.transpose(1, 2).flatten(0, 1))
        return output


class Fusion(nn.Module):
    """Frames from below, each taken twice, joined with those of the encoder at this rate."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.linear = Linear(2 * num_features, num_features)

    def forward(self, below: Tensor, skip: Tensor) -> Tensor:
        """``[B*C, L, F]`` and ``[B*C, 2 L, F]`` to ``[B*C, 2 L, F]``."""
        to_below, to_skip = self.linear.weight.chunk(2, dim=1)
        doubled = linear(below, to_below).unsqueeze(2)  # before the copy, at half the cost
        joined = linear(skip, to_skip, self.linear.bias).unflatten(1, (-1, 2)) + doubled
        return joined.flatten(1, 2)


class OutputHead(nn.Module):
    """Frames of the sources to their waveforms, for training also from the lower frame rates."""

    def __init__(self, config: SepReformerConfig) -> None:
        super().__init__()
        self.num_sources = config.num_sources
        features = config.num_features
        self.layers = nn.Sequential(
            Linear(features, 4 * features), nn.GLU(), Linear(2 * features, config.num_filters)
        )
        self.decoder = nn.ConvTranspose1d(
            config.num_filters, 1, config.kernel_size, config.hop_length, bias=False
        )

    def forward(self, frames: Tensor, encoded: Tensor | None = None) -> Tensor:
        """``[B*C, L', F]`` to ``[B, C, T]``.

        Args:
            frames: Features of the sources; without ``encoded`` L' is L.
            encoded: ``[B, L, N]``: what the frames, repeated to its length, mask; None to decode themselves.
        """
        decoded = self.layers(frames).mT  # [B*C, N, L']
        if encoded is not None:
            masks = F.interpolate(decoded.relu(), size=encoded.shape[1])
            masks = masks.unflatten(0, (-1, self.num_sources))
            decoded = (masks * encoded.mT.unsqueeze(1)).flatten(0, 1)
        waves = synthesise(decoded, self.decoder)
        return waves.view(-1, self.num_sources, waves.shape[-1])
