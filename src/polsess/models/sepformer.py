"""SepFormer: masks on a learned filterbank from transformers within and across chunks.

Subakan, Ravanelli, Cornell, Bronzi, Zhong (2021), "Attention is all you need in speech separation",
https://arxiv.org/abs/2010.13154. The published weights are SpeechBrain's.

Shapes: B batch, C sources, T samples, N filters, L frames, D features, K chunk length, S chunks.
"""

from __future__ import annotations

from typing import Any, Literal, Self

import torch
from pydantic import Field, model_validator

from polsess.models.layers.attention import FeedForwardActivation
from polsess.models.layers.dual_path_masking import DualPathBlock, DualPathConfig, DualPathMasking
from polsess.models.layers.sequence_models import (
    SequenceModelOptions,
    TransformerChanges,
    create_sequence_model,
)
from polsess.models.registry import register_model


class SepFormerConfig(DualPathConfig):
    """Dual-path transformers; the defaults are the paper's, with 8 + 8 layers in each of 2 blocks."""

    model_type: Literal["sepformer"] = "sepformer"
    num_intra_layers: int = Field(default=8, ge=1, le=256)
    """Layers of the model within chunks, per block."""
    num_inter_layers: int = Field(default=8, ge=1, le=256)
    """Layers of the model across chunks, per block."""
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
    """Whether a linear map follows each model."""
    across: TransformerChanges = TransformerChanges()
    """Options in which the transformers across chunks differ from those within."""
    intra_model: SequenceModelOptions | None = None
    """A model of another kind within chunks, in the transformer's place."""
    inter_model: SequenceModelOptions | None = None
    """A model of another kind across chunks, in the transformer's place."""

    def within_chunks(self) -> dict[str, Any]:
        """Options of the model within chunks; those of a transformer have no ``kind``."""
        return self._options(self.intra_model, {})

    def across_chunks(self) -> dict[str, Any]:
        """Options of the model across chunks; those of a transformer have no ``kind``."""
        return self._options(self.inter_model, self.across.model_dump(exclude_none=True))

    def _options(self, other: SequenceModelOptions | None, changes: dict[str, Any]) -> dict[str, Any]:
        if other is not None:
            return other.model_dump()
        return {name: getattr(self, name) for name in TransformerChanges.model_fields} | changes

    @model_validator(mode="after")
    def _no_option_is_idle(self) -> Self:
        if self.inter_model and self.across != TransformerChanges():
            raise ValueError("inter_model replaces the transformers across chunks; leave across out.")
        fields = type(self).model_fields
        changed = [
            name for name in TransformerChanges.model_fields if getattr(self, name) != fields[name].default
        ]
        if self.intra_model and self.inter_model and changed:
            raise ValueError(f"intra_model and inter_model replace all transformers; leave {changed[0]} out.")
        return self

    @model_validator(mode="after")
    def _fit_the_width(self) -> Self:
        for options in (self.within_chunks(), self.across_chunks()):
            num_heads, width = options.get("num_heads", 1), self.d_model
            if width % num_heads:
                raise ValueError(f"d_model {width} must be a multiple of num_heads {num_heads}.")
            positions = options.get("positions", "none") != "none" or options.get("positional_encoding")
            if positions and width % 2:
                raise ValueError(f"d_model {width} must be even for a positional encoding.")
            units = options.get("hidden_size", width) * (1 + options.get("bidirectional", False))
            if "hidden_size" in options and units != width and not self.linear_after_transformer:
                raise ValueError(
                    f"without linear_after_transformer a recurrent network's {units} outputs must be the "
                    f"{width} of d_model."
                )
        return self


_TWO_SPEAKERS: dict[str, object] = {"num_sources": 2, "sample_rate": 8000}
_THREE_SPEAKERS: dict[str, object] = {"num_sources": 3, "sample_rate": 8000}
_ENHANCEMENT_8K: dict[str, object] = {"num_sources": 1, "sample_rate": 8000}
_ENHANCEMENT_16K: dict[str, object] = {"num_sources": 1, "sample_rate": 16000}


@register_model("sepformer", SepFormerConfig)
class SepFormer(DualPathMasking):
    """One rectified mask per source on a learned filterbank; each mask sees the whole mixture."""

    config: SepFormerConfig
    inference_dtype = torch.bfloat16
    reduced_training_on_cpu = "faster"
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
        "sepformer-conformerintra": {**_TWO_SPEAKERS, "intra_model": {"kind": "conformer"}},
    }

    @staticmethod
    def create_block(config: SepFormerConfig) -> DualPathBlock:
        paths = [
            (config.num_intra_layers, config.within_chunks()),
            (config.num_inter_layers, config.across_chunks()),
        ]
        intra, inter = (
            create_sequence_model(num_layers, config.d_model, options, linear=config.linear_after_transformer)
            for num_layers, options in paths
        )
        kinds = [options.get("kind") == "torch_transformer" for _, options in paths]
        return DualPathBlock(config, intra, inter, swapped=(kinds[0], kinds[1]))
