"""Masks on a learned filterbank from segments that do not overlap, for RE-SepFormer and SkiM.

Della Libera et al. (2022), "Resource-efficient separation transformer", https://arxiv.org/abs/2206.09507;
Li et al. (2022), "SkiM", https://arxiv.org/abs/2201.10800.

Shapes: B batch, C sources, T samples, N filters, L frames, K segment length, S segments.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal

from pydantic import Field
from torch import Tensor

from polsess.models.layers.dual_path import Chunking
from polsess.models.layers.filterbank_model import StreamedMasking, StridedFilterbankConfig
from polsess.models.layers.masks import activate_masks
from polsess.models.layers.prelu import PReLU
from polsess.models.layers.products import Linear
from polsess.models.layers.stream import Stream


class SegmentMaskingConfig(StridedFilterbankConfig):
    """The filterbank, the segments and the masks."""

    num_filters: int = Field(default=128, ge=1, le=16384)
    """N, features of the learned filterbank and of everything up to the masks."""
    segment_size: int = Field(default=150, ge=1)
    """K, frames of a segment."""
    mask_activation: Literal["relu", "sigmoid", "tanh"] = "relu"
    """Activation of the masks."""


class SegmentMaskingModel(StreamedMasking):
    """Encode, cut into segments, let the architecture process them, mask, decode.

    Args:
        config: The configuration of the architecture.
    """

    config: SegmentMaskingConfig

    def __init__(self, config: SegmentMaskingConfig) -> None:
        super().__init__(config)
        filters = config.num_filters
        self.encoder = config.create_encoder("relu")
        self.activation = PReLU()
        self.to_masks = Linear(filters, config.num_sources * filters)
        self.decoder = config.create_decoder()

    @property
    def segment_look_ahead(self) -> int:
        """The same when a frame also sees the rest of its segment."""
        return (self.config.segment_size - 1) * self.hop_length + self.frame_look_ahead

    def segmentation(self, num_frames: int) -> Chunking:
        """The segments of ``num_frames`` frames."""
        return Chunking.disjoint(num_frames, self.config.segment_size)

    @property
    def delayed_frames(self) -> int:
        return self.segmentation(self.config.segment_size).context

    @property
    def frames_per_step(self) -> int:
        return self.segmentation(self.config.segment_size).period

    @abstractmethod
    def process_segments(self, segments: Tensor, stream: Stream | None = None) -> Tensor:
        """Map ``[B, S, K, N]`` to ``[B, S, K, N]``; the architecture proper."""

    def process_frames(self, frames: Tensor, stream: Stream | None) -> Tensor:
        """Map ``[B, L, N]`` to ``[B, L, N]``, in a stream ``delayed_frames`` late."""
        segmentation = self.segmentation(frames.shape[1]).streamed(stream, self)
        segments = segmentation.segment(frames)  # [B, S, K, N]
        return segmentation.overlap_add(self.process_segments(segments, stream))

    def estimate_masks(self, features: Tensor, stream: Stream | None = None) -> Tensor:
        frames = self.process_frames(features.mT, stream)
        logits = self.to_masks(self.activation(frames)).mT  # [B, C*N, L]
        return activate_masks(logits.unflatten(1, (self.output_sources, -1)), self.config.mask_activation)
