"""Base of every model on a learned filterbank: its frames, and masks between analysis and synthesis.

Luo and Mesgarani (2018), "TasNet", https://arxiv.org/abs/1711.00541.

Shapes: B batch, C sources, T samples, N filters, L frames.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from polsess.models.base import ModelConfig, SeparationModel
from polsess.models.layers.blocks import into_first
from polsess.models.layers.filterbank import Decoder, Encoder, EncoderActivation, FilterbankActivation
from polsess.models.layers.filters import FiltersOptions, create_filters
from polsess.models.layers.stream import Stream, StreamState
from polsess.models.streaming import StreamingModel


class FilterbankConfig(ModelConfig):
    """A filterbank whose frames are half a filter apart."""

    num_filters: int = Field(default=256, ge=1, le=16384)
    """N."""
    kernel_size: int = Field(default=16, ge=2, le=16384)
    """Samples of a filter."""

    @property
    def hop_length(self) -> int:
        """Samples between frames."""
        return self.kernel_size // 2

    def create_encoder(self, activation: FilterbankActivation) -> Encoder:
        """The analysis filterbank with fresh weights."""
        return Encoder(self.num_filters, self.kernel_size, self.hop_length, activation=activation)

    def create_decoder(self) -> Decoder:
        """The synthesis filterbank with fresh weights."""
        return Decoder(self.num_filters, self.kernel_size, self.hop_length)


class StridedFilterbankConfig(FilterbankConfig):
    """A filterbank whose frames may be any distance apart, up to one filter."""

    stride: int | None = Field(default=None, ge=1)
    """Samples between frames; None for half a filter."""

    @property
    def hop_length(self) -> int:
        return self.stride or self.kernel_size // 2

    @model_validator(mode="after")
    def _frames_touch(self) -> Self:
        if self.hop_length > self.kernel_size:
            raise ValueError(f"stride {self.hop_length} skips samples of kernel_size {self.kernel_size}")
        return self


class MadeFilterbankConfig(FilterbankConfig):
    """A filterbank whose filters may be made of fewer parameters."""

    filters: FiltersOptions | None = None
    """Filters of encoder and decoder that are made of fewer parameters; None for free filters."""

    @model_validator(mode="after")
    def _filters_can_be_made(self) -> Self:
        kind = self.filters and self.filters.kind
        if kind and self.num_filters % 2:
            raise ValueError(f"filters '{kind}' come in pairs; num_filters {self.num_filters} must be even")
        if kind == "sinc" and self.kernel_size % 2 == 0:
            raise ValueError(f"filters 'sinc' need an odd kernel_size, got {self.kernel_size}")
        if kind == "stft" and self.num_filters < self.kernel_size + 2:
            raise ValueError(
                f"filters 'stft' need a num_filters of at least kernel_size + 2, got {self.num_filters}"
            )
        return self

    def create_encoder(self, activation: FilterbankActivation, padding: int = 0) -> Encoder:
        return Encoder(
            self.num_filters,
            self.kernel_size,
            self.hop_length,
            activation=activation,
            padding=padding,
            filters=self._filters,
        )

    def create_decoder(self, padding: int = 0, output_padding: int = 0) -> Decoder:
        return Decoder(
            self.num_filters,
            self.kernel_size,
            self.hop_length,
            padding=padding,
            output_padding=output_padding,
            filters=self._filters,
        )

    @property
    def _filters(self) -> Callable[[], nn.Module] | None:
        if self.filters is None:
            return None
        sizes = (self.num_filters, self.kernel_size, self.hop_length, self.sample_rate)
        return partial(create_filters, self.filters, *sizes)


class ChosenFilterbankConfig(MadeFilterbankConfig, StridedFilterbankConfig):
    """A filterbank whose activation and kind of filters are chosen."""

    encoder_activation: EncoderActivation = "linear"
    """Activation of the encoder."""


class FilterbankModel(SeparationModel):
    """A model whose frames are those of a learned filterbank."""

    config: FilterbankConfig

    @property
    def hop_length(self) -> int:
        return self.config.hop_length

    @property
    def minimum_samples(self) -> int:
        """One filter."""
        return self.config.kernel_size

    @property
    def frame_look_ahead(self) -> int:
        """Samples that a frame reaches beyond the first sample that it gives an estimate of."""
        return self.config.kernel_size - 1


class FilterbankMasking(FilterbankModel):
    """Masks on the features of the mixture. The architecture creates ``encoder`` and ``decoder``."""

    encoder: Encoder
    decoder: Decoder

    @abstractmethod
    def estimate_masks(self, features: Tensor) -> Tensor:
        """Masks of every source, the architecture proper.

        Args:
            features: The encoded mixture, ``[B, N, L]``.

        Returns:
            ``[B, C, N, L]``.
        """

    def estimate_sources(self, mixture: Tensor) -> Tensor:
        features = self.encoder(mixture)  # [B, N, L]
        return self.decoder(into_first(torch.mul, self.estimate_masks(features), features.unsqueeze(1)))


class StreamedMasking(FilterbankMasking, StreamingModel):
    """Masks that may also be made frame by frame, or chunk by chunk, while the mixture comes in."""

    @abstractmethod
    def estimate_masks(self, features: Tensor, stream: Stream | None = None) -> Tensor:
        """Masks of every source, the architecture proper.

        Args:
            features: The encoded mixture, ``[B, N, L]``.
            stream: Memory of the frames before these; the masks are then ``delayed_frames`` late.

        Returns:
            ``[B, C, N, L]``.
        """

    @property
    def delayed_frames(self) -> int:
        """Frames by which the masks of a stream are late."""
        return 0

    @property
    def frames_per_step(self) -> int:
        """Frames of which a stream takes a multiple."""
        return 1

    @property
    def stream_head(self) -> int:
        return self.stream_lead

    @property
    def stream_lead(self) -> int:
        """What the first frame has in common with the second."""
        return self.config.kernel_size - self.hop_length

    @property
    def stream_step(self) -> int:
        return self.frames_per_step * self.hop_length

    @property
    def stream_delay(self) -> int:
        return self.delayed_frames * self.hop_length

    def num_frames(self, num_samples: int) -> int:
        return (num_samples - self.config.kernel_size) // self.hop_length + 1

    def begin_stream(self, head: Tensor) -> StreamState:
        state = super().begin_stream(head)
        return {**state, f"{self.layer_names[self.encoder]}.past": head}

    def stream_piece(self, samples: Tensor, stream: Stream) -> Tensor:
        common = self.stream_lead
        features = self.encoder(stream.join(self.encoder, samples, common))  # [B, N, L]
        masks = self.estimate_masks(features, stream)
        features = stream.delay(self, stream.real(features, -1), self.delayed_frames)
        return stream.overlap(self.decoder, self.decoder(masks * features.unsqueeze(1)), common)
