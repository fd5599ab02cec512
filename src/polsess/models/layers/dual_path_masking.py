"""The dual-path masking network: sequence models within and across chunks between a filterbank and its masks.

Luo, Chen, Yoshioka (2020), "Dual-path RNN", https://arxiv.org/abs/1910.06379, in the form of SepFormer,
Subakan et al. (2021), https://arxiv.org/abs/2010.13154. The architecture brings the two sequence models.

Shapes: B batch, C sources, T samples, N filters, L frames, D features, K chunk length, S chunks.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from polsess.models.layers.blocks import frames_per_block, runs_in_blocks
from polsess.models.layers.dual_path import Chunking, map_across_chunks, map_within_chunks
from polsess.models.layers.filterbank_model import FilterbankConfig, FilterbankModel
from polsess.models.layers.norms import NormName, TokenNormName, create_norm, create_token_norm
from polsess.models.layers.prelu import PReLU
from polsess.models.layers.products import Linear, linear
from polsess.models.layers.stft import without_autocast


class DualPathConfig(FilterbankConfig):
    """The filterbank, the chunks and the blocks; an architecture adds the sizes of its sequence models."""

    d_model: int = Field(default=256, ge=1, le=16384)
    """D, features inside the blocks."""
    chunk_size: int = Field(default=250, ge=2)
    """K, frames of a chunk; chunks overlap by half."""
    num_blocks: int = Field(default=2, ge=1, le=256)
    """Pairs of a model within and one across chunks."""
    norm: TokenNormName | None = "gLN"
    """The normalisation of the filterbank's output and after each model; None needs an input_norm."""
    input_norm: Literal["gLN", "cLN", "bN"] | None = None
    """The normalisation of the filterbank's output; None for the same as after each model."""
    skip_around_intra: bool = True
    """Whether the input of the model within chunks is added to its output."""

    @model_validator(mode="after")
    def _input_is_normalised(self) -> Self:
        if self.norm is None and self.input_norm is None:
            raise ValueError("norm null needs an input_norm: gLN, cLN or bN")
        return self

    @property
    def first_norm(self) -> NormName:
        """The normalisation of the filterbank's output."""
        name = self.input_norm or self.norm
        assert name is not None
        return name


class DualPathBlock(nn.Module):
    """One model within chunks, then one across them, each normalised and with a residual connection.

    Args:
        config: The model's configuration.
        intra: Maps ``[M, K, D]`` to the same shape for any M, each sequence alone.
        inter: Maps ``[M, S, D]`` likewise.
        swapped: Whether the model within chunks gets the sequences across them, and the other way round.
    """

    def __init__(
        self,
        config: DualPathConfig,
        intra: nn.Module,
        inter: nn.Module,
        swapped: tuple[bool, bool] = (False, False),
    ) -> None:
        super().__init__()
        self.map_intra = map_across_chunks if swapped[0] else map_within_chunks
        self.map_inter = map_within_chunks if swapped[1] else map_across_chunks
        self.skip_around_intra = config.skip_around_intra
        self.intra = intra
        self.intra_norm = create_token_norm(config.norm, config.d_model)
        self.inter = inter
        self.inter_norm = create_token_norm(config.norm, config.d_model)

    def forward(self, chunks: Tensor) -> Tensor:
        """Map ``[B, S, K, D]`` to ``[B, S, K, D]``."""
        intra = self.intra_norm(self.map_intra(self.intra, chunks))
        if self.skip_around_intra:
            intra += chunks
        inter: Tensor = self.inter_norm(self.map_inter(self.inter, intra))
        inter += intra
        return inter


class DualPathMasking(FilterbankModel):
    """One rectified mask per source on a learned filterbank; each mask sees the whole mixture.

    Args:
        config: The configuration of the architecture.
    """

    config: DualPathConfig

    def __init__(self, config: DualPathConfig) -> None:
        super().__init__(config)
        filters, features = config.num_filters, config.d_model
        self.encoder = config.create_encoder("relu")
        self.norm = create_norm(config.first_norm, filters)
        self.bottleneck = Linear(filters, features, bias=False)
        self.blocks = nn.ModuleList(self.create_block(config) for _ in range(config.num_blocks))
        self.activation = PReLU()
        self.to_sources = Linear(features, config.num_sources * features)
        self.gated_output = Linear(features, 2 * features)
        self.to_mask = Linear(features, filters, bias=False)
        self.decoder = config.create_decoder()

    @staticmethod
    @abstractmethod
    def create_block(config: Any) -> DualPathBlock:
        """One block with fresh weights; ``config`` is that of the architecture."""

    def estimate_sources(self, mixture: Tensor) -> Tensor:
        encoded = self.encoder(mixture)  # [B, N, L]
        with without_autocast(encoded):  # what the blocks add to stays in float32
            frames = self.bottleneck(self.norm(encoded).mT)  # [B, L, D]
        chunking = Chunking.half_overlapping(frames.shape[1], self.config.chunk_size)
        chunks = chunking.segment(frames)  # [B, S, K, D]
        for block in self.blocks:
            chunks = block(chunks)
        frames = chunking.overlap_add(self.activation(chunks))  # [B, L, D]
        if not runs_in_blocks():
            return self.decoder(self._mask(frames, encoded))
        size = frames_per_block(frames.device)
        parts = zip(frames.split(size, dim=1), encoded.split(size, dim=2), strict=True)
        masked = [self._mask(*part) for part in parts]
        return self.decoder(torch.cat(masked, dim=-1))

    def _mask(self, frames: Tensor, encoded: Tensor) -> Tensor:
        """Masked features ``[B, C, N, L]`` from ``[B, L, D]`` and ``[B, N, L]``."""
        # Published networks map before the overlap-add, which sums two chunks and so adds the bias twice.
        sources = linear(frames, self.to_sources.weight, 2.0 * self.to_sources.bias)
        sources = sources.unflatten(-1, (self.output_sources, -1))  # [B, L, C, D]
        output, gate = self.gated_output(sources).chunk(2, dim=-1)
        masks = self.to_mask(output.tanh() * gate.sigmoid()).relu()  # [B, L, C, N]
        return masks.permute(0, 2, 3, 1) * encoded.unsqueeze(1)
