"""Embedders whose frames are pooled into one vector by their mean and deviation over time.

Okabe, Koshinaka, Shinoda (2018), "Attentive statistics pooling", https://arxiv.org/abs/1803.10963.

Shapes: B batch, T samples, L frames, N features of a frame, D dimensions.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn

from polsess.models.speakers.base import SpeakerEmbedder

_ATTENTION_CHANNELS = 64


class PooledEmbedder(SpeakerEmbedder):
    """An embedder that weighs its frames; an architecture writes ``encode_frames`` and ``dimensions``.

    Its ``__init__`` calls ``add_pooling`` when the other parts are there.
    """

    def add_pooling(self, size: int) -> None:
        """Create the weights of the frames and the layers behind them.

        Args:
            size: N.
        """
        self.attention = nn.Sequential(
            nn.Conv1d(size, _ATTENTION_CHANNELS, 1), nn.Tanh(), nn.Conv1d(_ATTENTION_CHANNELS, size, 1)
        )
        self.output = nn.Sequential(
            nn.BatchNorm1d(2 * size), nn.Linear(2 * size, self.dimensions), nn.BatchNorm1d(self.dimensions)
        )

    @abstractmethod
    def encode_frames(self, speech: Tensor) -> Tensor:
        """Features ``[B, N, L]`` of waveforms ``[B, T]``."""

    def embed_speech(self, speech: Tensor) -> Tensor:
        if self.training and len(speech) == 1:
            raise ValueError(
                f"{self.config.model_type}: batch normalisation needs two items; train with data.batch_size "
                "of 2 or more."
            )
        hidden = self.encode_frames(speech)
        weights = self.attention(hidden).softmax(-1)
        mean = (weights * hidden).sum(-1)
        variance = (weights * hidden.square()).sum(-1) - mean.square()
        embeddings: Tensor = self.output(torch.cat([mean, variance.clamp_min(1e-6).sqrt()], 1))
        return embeddings
