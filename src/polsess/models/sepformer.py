"""SepFormer: masks on a learned filterbank from transformers within and across chunks.

Subakan, Ravanelli, Cornell, Bronzi, Zhong (2021), "Attention is all you need in speech separation",
https://arxiv.org/abs/2010.13154. The published weights are SpeechBrain's.

Shapes: B batch, C sources, T samples, N filters, L frames, D features, K chunk length, S chunks.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator
from torch import nn

from polsess.models.layers.attention import FeedForwardActivation, TransformerStack
from polsess.models.layers.dual_path_masking import DualPathBlock, DualPathConfig, DualPathMasking
from polsess.models.layers.products import Linear
from polsess.models.registry import register_model
from polsess.schema import Schema


class AcrossChunks(Schema):
    """Options of the transformers across chunks; None for the option of those within chunks."""

    num_heads: int | None = Field(default=None, ge=1, le=16384)
    """Attention heads; a divisor of d_model."""
    d_ffn: int | None = Field(default=None, ge=1, le=16384)
    """Features inside the feed-forward networks."""
    dropout: float | None = Field(default=None, ge=0.0, lt=1.0)
    """Share of activations and attention weights dropped in training."""
    activation: FeedForwardActivation | None = None
    """Activation of the feed-forward networks."""
    norm_first: bool | None = None
    """Whether a transformer layer normalises its inputs (pre-norm) or its sums (post-norm)."""
    positional_encoding: bool | None = None
    """Whether sinusoidal positions are added before each transformer; d_model must then be even."""


class SepFormerConfig(DualPathConfig):
    """Dual-path transformers; the defaults are the paper's, with 8 + 8 layers in each of 2 blocks."""

    model_type: Literal["sepformer"] = "sepformer"
    num_intra_layers: int = Field(default=8, ge=1, le=256)
    """Transformer layers within chunks, per block."""
    num_inter_layers: int = Field(default=8, ge=1, le=256)
    """Transformer layers across chunks, per block."""
    num_heads: int = Field(default=8, ge=1, le=16384)
    """Attention heads; a divisor of d_model."""
    d_ffn: int = Field(default=1024, ge=1, le=16384)
    """Features inside the feed-forward networks."""
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of activations and attention weights dropped in training."""
    activation: FeedForwardActivation = "relu"
    """Activation of the feed-forward networks."""
    norm_first: bool = True
    """Whether a transformer layer normalises its inputs (pre-norm) or its sums (post-norm)."""
    positional_encoding: bool = True
    """Whether sinusoidal positions are added before each transformer; d_model must then be even."""
    linear_after_transformer: bool = False
    """Whether a linear map follows each transformer."""
    across: AcrossChunks = AcrossChunks()
    """Options in which the transformers across chunks differ from those within."""

    @model_validator(mode="after")
    def _check_d_model(self) -> Self:
        for num_heads in (self.num_heads, self.across.num_heads or 1):
            if self.d_model % num_heads:
                raise ValueError(f"d_model {self.d_model} must be a multiple of num_heads {num_heads}.")
        if (self.positional_encoding or self.across.positional_encoding) and self.d_model % 2:
            raise ValueError(f"d_model {self.d_model} must be even for a positional encoding.")
        return self


def _create_transformer(
    config: SepFormerConfig, num_layers: int, over: AcrossChunks | None = None
) -> nn.Module:
    options = {name: getattr(config, name) for name in AcrossChunks.model_fields}
    if over is not None:
        options |= over.model_dump(exclude_none=True)
    transformer = TransformerStack(num_layers, config.d_model, **options)
    if not config.linear_after_transformer:
        return transformer
    return nn.Sequential(transformer, Linear(config.d_model, config.d_model))


_TWO_SPEAKERS: dict[str, object] = {"num_sources": 2, "sample_rate": 8000}
_THREE_SPEAKERS: dict[str, object] = {"num_sources": 3, "sample_rate": 8000}
_ENHANCEMENT_8K: dict[str, object] = {"num_sources": 1, "sample_rate": 8000}
_ENHANCEMENT_16K: dict[str, object] = {"num_sources": 1, "sample_rate": 16000}


@register_model("sepformer", SepFormerConfig)
class SepFormer(DualPathMasking):
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

    @staticmethod
    def create_block(config: SepFormerConfig) -> DualPathBlock:
        intra = _create_transformer(config, config.num_intra_layers)
        inter = _create_transformer(config, config.num_inter_layers, config.across)
        return DualPathBlock(config, intra, inter)
