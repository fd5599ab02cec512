"""DPMamba: the dual-path masking network with bidirectional state-space layers along both paths.

Jiang, Han, Mesgarani (2024), "Dual-path Mamba: Short and long-term bidirectional selective structured state
space models for speech separation", https://arxiv.org/abs/2403.18257.

Shapes: B batch, D features, K chunk length, S chunks.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import nn

from polsess.models.layers.dual_path_masking import DualPathBlock, DualPathConfig, DualPathMasking
from polsess.models.layers.mamba import BidirectionalMamba, MambaSizes, MambaStack
from polsess.models.registry import register_model


class DPMambaConfig(DualPathConfig):
    """Dual-path Mamba; the defaults are the paper's size S."""

    model_type: Literal["dpmamba"] = "dpmamba"
    num_blocks: int = Field(default=8, ge=1)
    """Pairs of a layer within and one across chunks."""
    skip_around_intra: bool = False
    """Whether the input of the layer within chunks is added to its output."""
    num_states: int = Field(default=16, ge=1)
    """States of a channel of the state-space models."""
    conv_kernel_size: int = Field(default=4, ge=1)
    """Taps of the convolution before the scan."""
    expansion: int = Field(default=2, ge=1)
    """Channels of the state-space models per feature."""

    @property
    def mamba_sizes(self) -> MambaSizes:
        """Sizes of every state-space layer."""
        return MambaSizes(self.d_model, self.num_states, self.conv_kernel_size, self.expansion)


@register_model("dpmamba", DPMambaConfig)
class DPMamba(DualPathMasking):
    """Dual-path masking whose sequence models are bidirectional Mamba layers."""

    config: DPMambaConfig
    presets = {
        "tiny": {"num_filters": 16, "d_model": 12, "chunk_size": 20, "num_blocks": 2, "num_states": 4},
        "xs": {"num_filters": 128, "d_model": 128},
        "s": {},
        "m": {"num_blocks": 16, "skip_around_intra": True},
        "l": {"num_filters": 512, "d_model": 512, "num_blocks": 16, "skip_around_intra": True},
    }
    amp_dtype = torch.bfloat16
    inference_dtype = torch.bfloat16
    supports_compile = False

    @staticmethod
    def create_block(config: DPMambaConfig) -> DualPathBlock:

        def layer() -> nn.Module:
            create = lambda: BidirectionalMamba(config.mamba_sizes)  # noqa: E731
            return MambaStack(config.d_model, [create], final_norm=True)

        return DualPathBlock(config, layer(), layer())
