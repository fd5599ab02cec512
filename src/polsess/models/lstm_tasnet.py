"""LSTM-TasNet: masks on a gated filterbank from a deep recurrent network.

Luo, Mesgarani (2018), "TasNet: time-domain audio separation network for real-time, single-channel speech
separation", https://arxiv.org/abs/1711.00541; with overlapping frames as in Asteroid, whose weights load.

Shapes: B batch, C sources, T samples, N filters, L frames, H units of all directions.
"""

from __future__ import annotations

from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from polsess.models.layers.filterbank_model import (
    MadeFilterbankConfig,
    StreamedMasking,
    StridedFilterbankConfig,
)
from polsess.models.layers.masks import MaskActivation, MaskNonlinearity
from polsess.models.layers.norms import create_norm, normalise
from polsess.models.layers.products import Linear
from polsess.models.layers.recurrent import Recurrent
from polsess.models.layers.stream import Stream
from polsess.models.registry import register_model


class LSTMTasNetConfig(MadeFilterbankConfig, StridedFilterbankConfig):
    """A stack of LSTMs between filterbanks; the defaults are Asteroid's."""

    model_type: Literal["lstmtasnet"] = "lstmtasnet"
    num_filters: int = Field(default=64, ge=1, le=16384)
    hidden_size: int = Field(default=512, ge=1, le=16384)
    """Units of each direction."""
    num_layers: int = Field(default=4, ge=1, le=64)
    """Layers of the recurrent network."""
    bidirectional: bool = True
    """Whether it also runs backwards. False is causal: the input's norm is then cumulative."""
    dropout: float = Field(default=0.3, ge=0.0, lt=1.0)
    """Share of activations dropped between layers in training."""
    mask_activation: MaskActivation = "sigmoid"

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.dropout and self.num_layers == 1:
            raise ValueError("dropout acts between layers; with num_layers 1 set it to 0")
        return self


@register_model("lstmtasnet", LSTMTasNetConfig)
class LSTMTasNet(StreamedMasking):
    """Gated encoder, LSTMs over the frames, masks, decoder.

    On Asteroid's weights: its softmax ran over the frames (``mask_activation: frame_softmax``), its cell is
    an LSTM whatever its arguments say, and it stores its encoder twice; one copy is read.
    """

    config: LSTMTasNetConfig
    inference_dtype = torch.bfloat16
    reduced_training_on_cpu = "faster in tiles"
    cpu_batch = 4
    causal_options = "bidirectional: false"
    presets = {
        "tiny": {"num_filters": 12, "kernel_size": 8, "hidden_size": 8, "num_layers": 2},
        "causal": {"bidirectional": False},
        "whamr": {"num_filters": 512, "kernel_size": 40, "hidden_size": 600},
    }

    def __init__(self, config: LSTMTasNetConfig) -> None:
        super().__init__(config)
        filters = config.num_filters
        self.encoder = config.create_encoder("gated")
        self.norm = create_norm("gLN" if config.bidirectional else "cgLN", filters)
        self.rnn = Recurrent(
            "LSTM",
            filters,
            config.hidden_size,
            config.num_layers,
            bidirectional=config.bidirectional,
            dropout=config.dropout,
        )
        self.to_masks = Linear(self.rnn.output_size, config.num_sources * filters)
        self.nonlinearity = MaskNonlinearity(config.mask_activation)
        self.decoder = config.create_decoder()

    @property
    def causal(self) -> bool:
        """Whether the recurrent network only runs forwards and the masks of frames do not compete."""
        return not self.config.bidirectional and self.config.mask_activation != "frame_softmax"

    @property
    def look_ahead_samples(self) -> int | None:
        """The rest of the last frame that overlaps a sample."""
        return self.frame_look_ahead if self.causal else None

    def estimate_masks(self, features: Tensor, stream: Stream | None = None) -> Tensor:
        hidden = self.rnn(normalise(self.norm, features, stream).permute(2, 0, 1), stream)  # [L, B, H]
        logits = self.to_masks(hidden).unflatten(-1, (self.output_sources, -1))  # [L, B, C, N]
        return self.nonlinearity(logits.permute(1, 2, 3, 0))
