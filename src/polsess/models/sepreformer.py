"""SepReformer: a U-net over time that splits the speakers early and lets them attend to each other.

Shin et al. (2024), "Separate and reconstruct: asymmetric encoder-decoder for speech separation",
https://arxiv.org/abs/2406.05983.

Shapes: B batch, C sources, T samples, N filters, L frames, F features, H heads, Q frames at the bottom.
"""

from __future__ import annotations

from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from polsess.models.layers.depthwise import DepthwiseConv
from polsess.models.layers.filterbank_model import FilterbankModel, StridedFilterbankConfig
from polsess.models.layers.padding import UtteranceNorm
from polsess.models.layers.products import Linear, linear
from polsess.models.registry import register_model

_MAX_SCORES = 1 << 25
"""Attention scores held at once: longer mixtures attend in blocks of queries."""


class SepReformerConfig(StridedFilterbankConfig):
    """Separation encoder and reconstruction decoder; the defaults are the published Base size."""

    model_type: Literal["sepreformer"] = "sepreformer"
    stride: int | None = Field(default=4, ge=1)
    num_features: int = Field(default=128, ge=1)
    """F, features of a frame."""
    num_stages: int = Field(default=4, ge=1)
    """R, halvings of the frame rate."""
    num_heads: int = Field(default=8, ge=1)
    """H."""
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
        for name in ("local_kernel_size", "sampling_kernel_size"):
            if getattr(self, name) % 2 == 0:
                raise ValueError(f"{name} must be odd, got {getattr(self, name)}")
        return self


@register_model("sepreformer", SepReformerConfig)
class SepReformer(FilterbankModel):
    """A learned filterbank, whose frames a U-net with early speaker split maps to the sources' frames."""

    config: SepReformerConfig
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
        "large-wham": {"num_features": 256, "dropout": 0.1, "shared_split": False},
    }

    def __init__(self, config: SepReformerConfig) -> None:
        super().__init__(config)
        filters, features, stages = config.num_filters, config.num_features, config.num_stages
        self.encoder = nn.Conv1d(1, filters, config.kernel_size, config.hop_length, bias=False)
        self.norm = UtteranceNorm(filters)
        self.project = Linear(filters, features, bias=False)
        self.distances = nn.Parameter(torch.randn(2 * config.max_distance, features // config.num_heads))
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
        """Whole strides, as its authors pad recordings."""
        return self.hop_length

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
        self.global_blocks = nn.ModuleList(GlobalBlock(config) for _ in count)
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
        output: Tensor = self.feed_forward(frames + gated.flatten(1, 2))
        return output


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
        filtered = self.conv(F.glu(self.gated(self.norm(frames))))
        expanded = self.batch_norm(self.expand(filtered).flatten(0, 1)).unflatten(0, frames.shape[:2])
        output: Tensor = self.feed_forward(frames + self.scale * self.reduce(expanded))
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
        sources = frames.unflatten(0, (-1, self.num_sources)).transpose(1, 2)  # [B, L, C, F]
        attended = self.attention(sources.flatten(0, 1)).view(sources.shape).transpose(1, 2)
        output: Tensor = self.feed_forward(frames + attended.flatten(0, 1))
        return output


class RelativeAttention(nn.Module):
    """Normalisation and multi-head self-attention whose keys know how far they are; no residual.

    Args:
        num_features: F.
        num_heads: H, a divisor of F.
        dropout: Share of attention weights and outputs dropped in training.
    """

    def __init__(self, num_features: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm = nn.LayerNorm(num_features)
        self.qkv = Linear(num_features, 3 * num_features)
        self.out = Linear(num_features, num_features)
        self.dropout = nn.Dropout(dropout)
        self.scale = nn.Parameter(torch.full((num_features,), 1e-5))

    def forward(self, tokens: Tensor, distances: Tensor | None = None) -> Tensor:
        """Attend.

        Args:
            tokens: ``[B, Q, F]``.
            distances: Embeddings ``[2 D, F / H]`` of the distances -D to D - 1 from key to query, farther
                ones as the farthest; None where the order of tokens means nothing.

        Returns:
            ``[B, Q, F]``.
        """
        heads = self.qkv(self.norm(tokens)).unflatten(-1, (3, self.num_heads, -1))  # [B, Q, 3, H, F / H]
        query, key, value = heads.permute(2, 0, 3, 1, 4).unbind(0)  # each [B, H, Q, F / H]
        query = query * query.shape[-1] ** -0.5
        dropout = self.dropout.p if self.training else 0.0
        length = query.shape[2]
        per_query = query.shape[0] * query.shape[1] * length  # scores
        block = length if distances is None else max(1, _MAX_SCORES // per_query)
        mixed = []
        for start in range(0, length, block):
            part = query[:, :, start : start + block]
            bias = None if distances is None else distance_scores(part, distances, start, length)
            mixed.append(F.scaled_dot_product_attention(part, key, value, bias, dropout_p=dropout, scale=1.0))
        output = torch.cat(mixed, dim=2).transpose(1, 2).flatten(2)
        return self.scale * self.dropout(self.out(output))


def distance_scores(query: Tensor, distances: Tensor, start: int, length: int) -> Tensor:
    """Products of queries with the embeddings of their distances to all keys.

    Each query is multiplied with a run of distances; as the run moves by one from query to query, reading
    the products with a row one shorter lines the keys up.

    Args:
        query: ``[..., P, D]``, the queries from number ``start`` on.
        distances: ``[2 M, D]``, embeddings of -M to M - 1.
        start: The first query's position.
        length: Q, the number of keys.

    Returns:
        ``[..., P, Q]``.
    """
    num_queries, reach = query.shape[-2], len(distances) // 2
    highest = start + num_queries - 1
    runs = torch.arange(highest, highest - length - num_queries, -1, device=query.device)
    rows = F.embedding(runs.clamp(-reach, reach - 1) + reach, distances)  # [Q + P, D]
    products = (query @ rows.mT).flatten(-2)
    first, shorter = num_queries - 1, length + num_queries - 1
    lined_up = products[..., first : first + num_queries * shorter].unflatten(-1, (num_queries, shorter))
    return lined_up[..., :length]


class ConvolvedFeedForward(nn.Module):
    """A gated feed-forward network with a short filter per feature, and its residual."""

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
        return frames + self.scale * self.reduce(self.conv(self.expand(frames)))


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
        waves: Tensor = self.decoder(decoded)
        return waves.view(-1, self.num_sources, waves.shape[-1])
