"""DPTNet: dual-path transformers whose feed-forward networks are recurrent, so that they need no positions.

Chen, Mao, Liu (2020), "Dual-path transformer network: direct context-aware modeling for end-to-end monaural
speech separation", https://arxiv.org/abs/2007.13975. Published weights are Asteroid's.

Shapes: B batch, C sources, T samples, N filters, L frames, D features, K chunk length, S chunks, M sequences.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from polsess.models.layers.attention import SelfAttention
from polsess.models.layers.blocks import frames_per_block
from polsess.models.layers.dual_path import Chunking, map_across_chunks, map_within_chunks
from polsess.models.layers.filterbank import EncoderActivation
from polsess.models.layers.filterbank_model import ChosenFilterbankConfig, FilterbankMasking
from polsess.models.layers.masks import ChunkMasks, MaskActivation
from polsess.models.layers.norms import NormName, create_norm, create_token_norm
from polsess.models.layers.products import Linear
from polsess.models.layers.recurrent import Recurrent
from polsess.models.registry import register_model

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "leaky_relu": F.leaky_relu,
    "gelu": F.gelu,
    "silu": F.silu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
}


class DPTNetConfig(ChosenFilterbankConfig):
    """Dual-path improved transformers; the defaults are Asteroid's, ``paper`` has half the units."""

    model_type: Literal["dptnet"] = "dptnet"
    num_filters: int = Field(default=64, ge=1, le=16384)
    """N; the transformers' D is N, rounded up to a multiple of the heads by a linear map."""
    encoder_activation: EncoderActivation = "relu"
    """Activation of the encoder."""
    num_heads: int = Field(default=4, ge=1, le=1024)
    """Attention heads."""
    hidden_size: int = Field(default=256, ge=1, le=16384)
    """Units of each direction of the LSTM in a feed-forward network."""
    activation: Literal["relu", "leaky_relu", "gelu", "silu", "sigmoid", "tanh", "linear"] = "relu"
    """Activation after the LSTM."""
    inter_bidirectional: bool = True
    """Whether the LSTMs across chunks also run backwards; the attention there sees all chunks in any case."""
    num_blocks: int = Field(default=6, ge=1, le=64)
    """Pairs of a transformer layer within and one across chunks."""
    chunk_size: int = Field(default=100, ge=2)
    """K, frames of a chunk."""
    hop_size: int | None = Field(default=None, ge=1)
    """Frames between chunks; None for half a chunk."""
    norm: NormName = "gLN"
    """The normalisation of the encoder's output and, for each sequence of a chunk or of all chunks alone,
    after attention and feed-forward network."""
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share dropped in training: attention weights, the LSTM's outputs, both outputs of a layer."""
    mask_activation: MaskActivation = "relu"

    @property
    def d_model(self) -> int:
        """D."""
        return -(-self.num_filters // self.num_heads) * self.num_heads

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if (self.hop_size or 1) > self.chunk_size:
            raise ValueError(f"hop_size {self.hop_size} skips frames of chunk_size {self.chunk_size}")
        return self

    def chunking(self, num_frames: int) -> Chunking:
        """The chunks of ``num_frames`` frames."""
        return Chunking.strided(num_frames, self.chunk_size, self.hop_size or self.chunk_size // 2)


_ENHANCEMENT_16K = {"num_sources": 1, "sample_rate": 16000, "num_blocks": 2, "mask_activation": "sigmoid"}


@register_model("dptnet", DPTNetConfig)
class DPTNet(FilterbankMasking):
    """Encoder, blocks of one transformer layer within and one across chunks, masks, decoder.

    On Asteroid's weights: its softmax runs over the sources, so that a network for one source has the
    constant mask one (``mask_activation: ones``).
    """

    config: DPTNetConfig
    inference_dtype = torch.bfloat16
    reduced_training_on_cpu = "faster"
    presets = {
        "tiny": {
            "num_filters": 12,
            "kernel_size": 8,
            "num_heads": 2,
            "hidden_size": 8,
            "num_blocks": 2,
            "chunk_size": 20,
        },
        "paper": {"kernel_size": 2, "hidden_size": 128, "chunk_size": 250},
        "DPTNet_WHAM_sepclean": {"num_blocks": 2, "mask_activation": "sigmoid"},
        "DPTNet_Libri1Mix_enhsingle_16k": _ENHANCEMENT_16K,
        "DPTNet_WHAMR_enhsingle_16k": _ENHANCEMENT_16K,
    }

    def __init__(self, config: DPTNetConfig) -> None:
        super().__init__(config)
        filters, features = config.num_filters, config.d_model
        self.encoder = config.create_encoder(config.encoder_activation)
        self.widen = Linear(filters, features) if features != filters else None
        self.input_norm = create_norm(config.norm, features)
        self.blocks = nn.ModuleList(DualPathLayers(config) for _ in range(config.num_blocks))
        self.to_masks = ChunkMasks(
            features, filters, config.num_sources, None, config.mask_activation, average=True
        )
        self.decoder = config.create_decoder()

    def estimate_masks(self, features: Tensor) -> Tensor:
        wide = features if self.widen is None else self.widen(features.mT).mT  # [B, D, L]
        chunking = self.config.chunking(features.shape[-1])
        chunks = chunking.segment(self.input_norm(wide).mT)  # [B, S, K, D]
        for block in self.blocks:
            chunks = block(chunks)
        return self.to_masks(chunks, chunking)


class DualPathLayers(nn.Module):
    """One transformer layer within chunks, then one across them.

    Args:
        config: The model's configuration.
    """

    def __init__(self, config: DPTNetConfig) -> None:
        super().__init__()
        self.intra = ImprovedTransformerLayer(config, bidirectional=True)
        self.inter = ImprovedTransformerLayer(config, bidirectional=config.inter_bidirectional)

    def forward(self, chunks: Tensor) -> Tensor:
        """Map ``[B, S, K, D]`` to ``[B, S, K, D]``."""
        block = 4 * frames_per_block(chunks.device)  # an LSTM's steps need many sequences at once
        intra = map_within_chunks(self.intra, chunks, block)
        return map_across_chunks(self.inter, intra, block)


class ImprovedTransformerLayer(nn.Module):
    """Self-attention, then an LSTM with a linear map, each added to its input and normalised.

    Args:
        config: The model's configuration.
        bidirectional: Whether the LSTM also runs backwards.
    """

    def __init__(self, config: DPTNetConfig, *, bidirectional: bool) -> None:
        super().__init__()
        features = config.d_model
        self.attention = SelfAttention(features, config.num_heads, dropout=config.dropout)
        self.attention_norm = create_token_norm(config.norm, features)
        self.rnn = Recurrent("LSTM", features, config.hidden_size, bidirectional=bidirectional)
        self.activation = _ACTIVATIONS.get(config.activation)
        self.project = Linear(self.rnn.output_size, features)
        self.feed_forward_norm = create_token_norm(config.norm, features)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map ``[M, L, D]`` to ``[M, L, D]``; the sequences do not see each other."""
        tokens = self.attention_norm(tokens + self.dropout(self.attention(tokens)))
        hidden = self.rnn(tokens.transpose(0, 1))  # [L, M, H]
        hidden = hidden if self.activation is None else self.activation(hidden)
        projected = self.project(self.dropout(hidden)).transpose(0, 1)  # [M, L, D]
        return self.feed_forward_norm(tokens + self.dropout(projected))
