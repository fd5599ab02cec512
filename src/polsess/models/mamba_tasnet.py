"""Mamba-TasNet: masks on a learned filterbank from a stack of bidirectional state-space layers.

Jiang, Li, Florea, Han, Mesgarani (2024), "Speech Slytherin: Examining the performance and efficiency of Mamba
for speech separation, recognition, and synthesis", https://arxiv.org/abs/2407.09732.

Shapes: B batch, C sources, T samples, N filters, L frames.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from polsess.models.layers.filterbank_model import FilterbankConfig, FilterbankMasking
from polsess.models.layers.mamba import BidirectionalMamba, MambaSizes, MambaStack
from polsess.models.layers.products import Linear
from polsess.models.registry import register_model


class MambaTasNetConfig(FilterbankConfig):
    """Mamba-TasNet; the defaults are the paper's size S."""

    model_type: Literal["mambatasnet"] = "mambatasnet"
    num_layers: int = Field(default=16, ge=1)
    """Bidirectional layers."""
    num_states: int = Field(default=16, ge=1)
    """States of a channel of the state-space models."""
    conv_kernel_size: int = Field(default=4, ge=1)
    """Taps of the convolution before the scan."""
    expansion: int = Field(default=2, ge=1)
    """Channels of the state-space models per feature."""

    @property
    def mamba_sizes(self) -> MambaSizes:
        """Sizes of every state-space layer."""
        return MambaSizes(self.num_filters, self.num_states, self.conv_kernel_size, self.expansion)


@register_model("mambatasnet", MambaTasNetConfig)
class MambaTasNet(FilterbankMasking):
    """One rectified mask per source on a learned filterbank."""

    config: MambaTasNetConfig
    presets = {
        "tiny": {"num_filters": 16, "num_layers": 2, "num_states": 4},
        "xs": {"num_filters": 128},
        "s": {},
        "m": {"num_layers": 32},
        "l": {"num_filters": 512, "num_layers": 32},
    }
    amp_dtype = torch.bfloat16
    inference_dtype = torch.bfloat16
    supports_compile = False

    def __init__(self, config: MambaTasNetConfig) -> None:
        super().__init__(config)
        filters, sizes = config.num_filters, config.mamba_sizes
        self.encoder = config.create_encoder("relu")
        self.norm = nn.LayerNorm(filters, eps=1e-8)
        self.bottleneck = Linear(filters, filters, bias=False)
        mixers = [lambda: BidirectionalMamba(sizes)] * config.num_layers
        self.layers = MambaStack(filters, mixers, final_norm=True)
        self.to_masks = Linear(filters, config.num_sources * filters, bias=False)
        self.decoder = config.create_decoder()

    def estimate_masks(self, features: Tensor) -> Tensor:
        frames = self.layers(self.bottleneck(self.norm(features.mT)))  # [B, L, N]
        masks = self.to_masks(frames).relu().unflatten(-1, (self.output_sources, -1))  # [B, L, C, N]
        return masks.permute(0, 2, 3, 1)
