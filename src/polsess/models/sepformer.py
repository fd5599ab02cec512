"""SepFormer: masks on a learned filterbank from transformers within and across chunks.

Subakan, Ravanelli, Cornell, Bronzi, Zhong (2021), "Attention is all you need in speech separation",
https://arxiv.org/abs/2010.13154. The published weights are SpeechBrain's.

Shapes: B batch, C sources, T samples, N filters, L frames, D features, K chunk length, S chunks.
"""

from __future__ import annotations

from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from polsess.models.base import ModelConfig, SeparationModel
from polsess.models.layers.attention import FeedForwardActivation, TransformerStack
from polsess.models.layers.dual_path import (
    Chunking,
    frames_per_block,
    map_across_chunks,
    map_within_chunks,
)
from polsess.models.layers.filterbank import Decoder, Encoder
from polsess.models.layers.norms import TokenNormName, create_norm, create_token_norm
from polsess.models.registry import register_model


class SepFormerConfig(ModelConfig):
    """Dual-path transformers; the defaults are the paper's, with 8 + 8 layers in each of 2 blocks."""

    model_type: Literal["sepformer"] = "sepformer"
    num_filters: int = Field(default=256, ge=1)
    """N, features of the learned filterbank."""
    kernel_size: int = Field(default=16, ge=2)
    """Samples of a filter; frames are half as far apart."""
    d_model: int = Field(default=256, ge=1)
    """D, features inside the transformers."""
    chunk_size: int = Field(default=250, ge=2)
    """K, frames of a chunk; chunks overlap by half."""
    num_blocks: int = Field(default=2, ge=1)
    """Pairs of a transformer within and one across chunks."""
    num_intra_layers: int = Field(default=8, ge=1)
    """Transformer layers within chunks, per block."""
    num_inter_layers: int = Field(default=8, ge=1)
    """Transformer layers across chunks, per block."""
    num_heads: int = Field(default=8, ge=1)
    """Attention heads; a divisor of d_model."""
    d_ffn: int = Field(default=1024, ge=1)
    """Features inside the feed-forward networks."""
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of activations and attention weights dropped in training."""
    activation: FeedForwardActivation = "relu"
    """Of the feed-forward networks."""
    norm_first: bool = True
    """Whether a transformer layer normalises its inputs (pre-norm) or its sums (post-norm)."""
    positional_encoding: bool = True
    """Whether sinusoidal positions are added before each transformer; d_model must then be even."""
    norm: TokenNormName = "gLN"
    """The normalisation of the filterbank's output and after each transformer."""
    linear_after_transformer: bool = False
    """Whether a linear map follows each transformer."""
    skip_around_intra: bool = True
    """Whether the input of the transformer within chunks is added to its output."""

    @property
    def stride(self) -> int:
        """Samples between frames."""
        return self.kernel_size // 2

    @model_validator(mode="after")
    def _check_d_model(self) -> Self:
        if self.d_model % self.num_heads:
            raise ValueError(f"d_model {self.d_model} must be a multiple of num_heads {self.num_heads}.")
        if self.positional_encoding and self.d_model % 2:
            raise ValueError(f"d_model {self.d_model} must be even for a positional encoding.")
        return self


class DualPathTransformer(nn.Module):
    """One transformer within chunks, then one across them, each normalised and with a residual connection.

    Args:
        config: The model's configuration.
    """

    def __init__(self, config: SepFormerConfig) -> None:
        super().__init__()
        self.skip_around_intra = config.skip_around_intra
        self.intra = _create_transformer(config, config.num_intra_layers)
        self.intra_norm = create_token_norm(config.norm, config.d_model)
        self.inter = _create_transformer(config, config.num_inter_layers)
        self.inter_norm = create_token_norm(config.norm, config.d_model)

    def forward(self, chunks: Tensor) -> Tensor:
        """Map ``[B, S, K, D]`` to ``[B, S, K, D]``."""
        intra = self.intra_norm(map_within_chunks(self.intra, chunks))
        if self.skip_around_intra:
            intra += chunks
        inter: Tensor = self.inter_norm(map_across_chunks(self.inter, intra))
        inter += intra
        return inter


def _create_transformer(config: SepFormerConfig, num_layers: int) -> nn.Module:
    transformer = TransformerStack(
        num_layers,
        config.d_model,
        config.num_heads,
        config.d_ffn,
        positional_encoding=config.positional_encoding,
        dropout=config.dropout,
        activation=config.activation,
        norm_first=config.norm_first,
    )
    if not config.linear_after_transformer:
        return transformer
    return nn.Sequential(transformer, nn.Linear(config.d_model, config.d_model))


_TWO_SPEAKERS: dict[str, object] = {"num_sources": 2, "sample_rate": 8000}
_THREE_SPEAKERS: dict[str, object] = {"num_sources": 3, "sample_rate": 8000}
_ENHANCEMENT_8K: dict[str, object] = {"num_sources": 1, "sample_rate": 8000}
_ENHANCEMENT_16K: dict[str, object] = {"num_sources": 1, "sample_rate": 16000}


@register_model("sepformer", SepFormerConfig)
class SepFormer(SeparationModel):
    """One rectified mask per source on a learned filterbank; each mask sees the whole mixture."""

    config: SepFormerConfig
    presets = {
        "tiny": {
            "num_filters": 16,
            "d_model": 12,
            "chunk_size": 20,
            "num_blocks": 1,
            "num_intra_layers": 1,
            "num_inter_layers": 1,
            "num_heads": 2,
            "d_ffn": 24,
        },
        "sepformer-wsj02mix": _TWO_SPEAKERS,
        "sepformer-wham": _TWO_SPEAKERS,
        "sepformer-whamr": _TWO_SPEAKERS,
        "sepformer-whamr16k": {"num_sources": 2, "sample_rate": 16000},
        "sepformer-libri2mix": _TWO_SPEAKERS,
        "sepformer-wsj03mix": _THREE_SPEAKERS,
        "sepformer-libri3mix": _THREE_SPEAKERS,
        "sepformer-wham-enhancement": _ENHANCEMENT_8K,
        "sepformer-whamr-enhancement": _ENHANCEMENT_8K,
        "sepformer-wham16k-enhancement": _ENHANCEMENT_16K,
        "sepformer-dns4-16k-enhancement": _ENHANCEMENT_16K,
        "sepformer_rescuespeech": _ENHANCEMENT_16K,
    }

    def __init__(self, config: SepFormerConfig) -> None:
        super().__init__(config)
        filters, features, stride = config.num_filters, config.d_model, config.stride
        self.encoder = Encoder(filters, config.kernel_size, stride, activation="relu")
        self.norm = create_norm(config.norm, filters)
        self.bottleneck = nn.Linear(filters, features, bias=False)
        self.blocks = nn.ModuleList(DualPathTransformer(config) for _ in range(config.num_blocks))
        self.activation = nn.PReLU()
        self.to_sources = nn.Linear(features, config.num_sources * features)
        self.gated_output = nn.Linear(features, 2 * features)
        self.to_mask = nn.Linear(features, filters, bias=False)
        self.decoder = Decoder(filters, config.kernel_size, stride)

    @property
    def hop_length(self) -> int:
        """Samples between frames."""
        return self.config.stride

    @property
    def minimum_samples(self) -> int:
        """One filter."""
        return self.config.kernel_size

    def estimate_sources(self, mixture: Tensor) -> Tensor:
        """See the base class."""
        encoded = self.encoder(mixture)  # [B, N, L]
        frames = self.bottleneck(self.norm(encoded).mT)  # [B, L, D]
        chunking = Chunking.half_overlapping(frames.shape[1], self.config.chunk_size)
        chunks = chunking.segment(frames)  # [B, S, K, D]
        for block in self.blocks:
            chunks = block(chunks)
        frames = chunking.overlap_add(self.activation(chunks))  # [B, L, D]
        size = frames.shape[1] if torch.is_grad_enabled() else frames_per_block(frames.device)
        parts = zip(frames.split(size, dim=1), encoded.split(size, dim=2), strict=True)
        masked = [self._mask(*part) for part in parts]
        return self.decoder(torch.cat(masked, dim=-1))

    def _mask(self, frames: Tensor, encoded: Tensor) -> Tensor:
        """Masked features ``[B, C, N, L]`` from ``[B, L, D]`` and ``[B, N, L]``."""
        # This map stands behind the overlap-add, which sums two chunks and so would add the bias twice.
        sources = F.linear(frames, self.to_sources.weight, 2.0 * self.to_sources.bias)
        sources = sources.unflatten(-1, (self.output_sources, -1))  # [B, L, C, D]
        output, gate = self.gated_output(sources).chunk(2, dim=-1)
        masks = self.to_mask(output.tanh() * gate.sigmoid()).relu()  # [B, L, C, N]
        return masks.permute(0, 2, 3, 1) * encoded.unsqueeze(1)
