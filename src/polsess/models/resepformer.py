"""RE-SepFormer: transformers within segments, and one across the means of the segments.

Della Libera, Subakan, Ravanelli, Cornell, Lepoutre, Grondin (2022), "Resource-efficient separation
transformer", https://arxiv.org/abs/2206.09507. The published weights are SpeechBrain's; unlike there, the
items of a batch do not see each other.

Shapes: B batch, N features, K segment length, S segments.
"""

from __future__ import annotations

from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from polsess.models.layers.attention import FeedForwardActivation, TransformerStack
from polsess.models.layers.dual_path import map_within_chunks
from polsess.models.layers.norms import TokenNormName, create_token_norm
from polsess.models.layers.segment_masking import SegmentMaskingConfig, SegmentMaskingModel
from polsess.models.layers.sequence_models import TransformerChanges
from polsess.models.layers.stream import Stream
from polsess.models.registry import register_model

_EPS = 2.0**-23  # of the norm after a transformer; the published weights were trained with it


class MemoryChanges(TransformerChanges):
    """Options in which the memory transformers differ from those of segments; None for the same."""

    norm: TokenNormName | Literal["none"] | None = None
    """The normalisation after each transformer, or ``none``."""
    skip: bool | None = None
    """Whether the input of each transformer is added to its output."""
    causal_attention: bool | None = None
    """Whether segments see only the memory of earlier segments."""


class RESepFormerConfig(SegmentMaskingConfig):
    """Segment and memory transformers; the defaults are the paper's, at 8 kHz."""

    model_type: Literal["resepformer"] = "resepformer"
    num_blocks: int = Field(default=2, ge=1, le=256)
    """Segment transformers; with one memory transformer between two of them."""
    num_segment_layers: int = Field(default=8, ge=1, le=256)
    """Layers of a segment transformer."""
    num_memory_layers: int = Field(default=8, ge=1, le=256)
    """Layers of a memory transformer."""
    num_heads: int = Field(default=8, ge=1, le=16384)
    """Attention heads; a divisor of num_filters."""
    d_ffn: int = Field(default=1024, ge=1, le=16384)
    """Features inside the feed-forward networks."""
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of activations and attention weights dropped in training."""
    activation: FeedForwardActivation = "relu"
    """Activation of the feed-forward networks."""
    norm_first: bool = True
    """Whether a transformer layer normalises its inputs (pre-norm) or its sums (post-norm)."""
    positional_encoding: bool = True
    """Whether sinusoidal positions are added before each transformer; num_filters must then be even."""
    norm: TokenNormName | None = "gLN"
    """The normalisation after each transformer, over its sequence (gLN) or per frame (cLN)."""
    skip: bool = True
    """Whether the input of each transformer is added to its output."""
    memory: Literal["mean", "none"] = "mean"
    """Exchange between segments: their means pass a memory transformer, or there is none."""
    causal_attention: bool = False
    """Whether frames see only earlier frames of the segment, and segments only earlier segments' memory."""
    memory_transformer: MemoryChanges = MemoryChanges()
    """Options in which the memory transformers differ from those of segments."""

    @property
    def of_memory(self) -> RESepFormerConfig:
        """A configuration whose options of transformers are those of memory transformers."""
        changes = self.memory_transformer.model_dump(exclude_none=True)
        if changes.get("norm") == "none":
            changes["norm"] = None
        return self.model_copy(update=changes)

    @model_validator(mode="after")
    def _check_features(self) -> Self:
        if self.memory == "none" and self.memory_transformer != MemoryChanges():
            raise ValueError("memory 'none' has no transformers; leave memory_transformer out.")
        for config in (self, self.of_memory):
            if self.num_filters % config.num_heads:
                raise ValueError(
                    f"num_filters {self.num_filters} must be a multiple of num_heads {config.num_heads}."
                )
            if config.positional_encoding and self.num_filters % 2:
                raise ValueError(f"num_filters {self.num_filters} must be even for a positional encoding.")
        return self


class NormalizedTransformer(nn.Module):
    """A transformer, a normalisation of its output, and a residual connection.

    Args:
        config: The model's configuration.
        num_layers: Layers of the transformer.
    """

    def __init__(self, config: RESepFormerConfig, num_layers: int) -> None:
        super().__init__()
        self.skip = config.skip
        self.transformer = TransformerStack(
            num_layers,
            config.num_filters,
            config.num_heads,
            config.d_ffn,
            positional_encoding=config.positional_encoding,
            dropout=config.dropout,
            activation=config.activation,
            norm_first=config.norm_first,
            causal=config.causal_attention,
        )
        self.norm = create_token_norm(config.norm, config.num_filters, _EPS)

    def forward(self, sequences: Tensor) -> Tensor:
        """Map ``[M, L, N]`` to ``[M, L, N]``; the M sequences do not see each other."""
        output = self.norm(self.transformer(sequences))
        return output + sequences if self.skip else output


@register_model("resepformer", RESepFormerConfig)
class RESepFormer(SegmentMaskingModel):
    """Masks from segments of frames that know each other by their means only."""

    config: RESepFormerConfig
    inference_dtype = torch.bfloat16
    reduced_training_on_cpu = "faster"
    causal_options = "causal_attention: true with norm: cLN and memory: none"
    presets = {
        "tiny": {
            "num_filters": 12,
            "segment_size": 20,
            "num_segment_layers": 1,
            "num_memory_layers": 1,
            "num_heads": 2,
            "d_ffn": 24,
        },
        "resepformer-wsj02mix": {},
    }

    def __init__(self, config: RESepFormerConfig) -> None:
        super().__init__(config)
        self.segment_models = nn.ModuleList(
            NormalizedTransformer(config, config.num_segment_layers) for _ in range(config.num_blocks)
        )
        num_memories = config.num_blocks - 1 if config.memory == "mean" else 0
        self.memory_models = nn.ModuleList(
            NormalizedTransformer(config.of_memory, config.num_memory_layers) for _ in range(num_memories)
        )

    @property
    def causal(self) -> bool:
        """Causal attention suffices unless a memory is normalised over the whole utterance."""
        memory = self.config.of_memory
        remembers_causally = memory.causal_attention and memory.norm != "gLN"
        return self.config.causal_attention and (remembers_causally or not self.memory_models)

    @property
    def look_ahead_samples(self) -> int | None:
        """The rest of the segment, where its mean or its normalisation is looked at."""
        if not self.causal:
            return None
        sees_segment = len(self.memory_models) > 0 or self.config.norm == "gLN"
        return self.segment_look_ahead if sees_segment else self.frame_look_ahead

    @property
    def stream_obstacle(self) -> str:
        """Memories attend to every earlier segment, so that a stream would grow without limit."""
        if self.causal and self.memory_models:
            return "its memory attends to all that came before, without bound; memory: none does not"
        return super().stream_obstacle

    def process_segments(self, segments: Tensor, stream: Stream | None = None) -> Tensor:  # noqa: ARG002
        for index, segment_model in enumerate(self.segment_models):
            if index > 0 and self.memory_models:
                memory = self.memory_models[index - 1](segments.mean(dim=2))  # [B, S, N]
                segments = segments + memory.unsqueeze(2)
            segments = map_within_chunks(segment_model, segments)
        return segments
