"""SPMamba: TF-GridNet with bidirectional state-space models in place of its LSTMs.

Li, Chen, Yang, Hu (2024), "SPMamba: State-space model is all you need in speech separation",
https://arxiv.org/abs/2404.02063. Complex-spectral mapping: there are no masks.

Shapes: B batch, C sources, T samples, L frames, F frequency bins, D channels of the grid.
"""

from __future__ import annotations

from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from polsess.models.layers.mamba import MambaPair, MambaSizes
from polsess.models.layers.spectral_model import SpectralConfig, SpectralModel
from polsess.models.layers.tf_grid import GridBlock, check_grid
from polsess.models.registry import register_model


class SPMambaConfig(SpectralConfig):
    """SPMamba; the defaults are the published model of 6.1 M parameters at 8 kHz."""

    model_type: Literal["spmamba"] = "spmamba"
    num_blocks: int = Field(default=6, ge=1)
    """B."""
    num_channels: int = Field(default=16, ge=1)
    """D, a multiple of ``num_heads``."""
    kernel_size: int = Field(default=8, ge=1)
    """I, neighbouring frequencies (frames) that the state-space model sees in one step."""
    stride: int = Field(default=1, ge=1)
    """J, at most ``kernel_size``."""
    num_states: int = Field(default=16, ge=1)
    """N, states of a channel of the state-space models."""
    conv_kernel_size: int = Field(default=4, ge=1)
    """Taps of the convolution before the scan."""
    expansion: int = Field(default=4, ge=1)
    """Channels of the state-space models per input feature, of which there are ``kernel_size`` times D."""
    num_heads: int = Field(default=4, ge=1)
    """L, heads of the attention over frames."""
    approximate_qk_size: int = Field(default=512, ge=1)
    """Length of a query of a head over a whole frame, rounded up to a multiple of the number of bins; E is
    the multiple."""
    eps: float = Field(default=1e-5, gt=0.0)
    """Added to variances in the norms of the grid; those of the state-space models have 1e-5."""
    recompute_blocks: bool = False
    """Whether training keeps the inputs of the blocks only and computes each block twice: a sixth of the
    memory for a third more time."""

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        check_grid(self.num_channels, self.num_heads, self.kernel_size, self.stride)
        return self

    @property
    def mamba_sizes(self) -> MambaSizes:
        """Sizes of the state-space models along both axes."""
        features = self.kernel_size * self.num_channels
        return MambaSizes(features, self.num_states, self.conv_kernel_size, self.expansion)


@register_model("spmamba", SPMambaConfig)
class SPMamba(SpectralModel):
    """A grid network of state-space models along frequency and time, and attention over frames."""

    config: SPMambaConfig
    presets = {
        "tiny": {
            "n_fft": 32,
            "hop_length": 16,
            "num_blocks": 2,
            "num_channels": 4,
            "kernel_size": 3,
            "num_states": 4,
            "expansion": 2,
            "num_heads": 2,
            "approximate_qk_size": 30,
        },
        "wsj0_2mix": {},
        "wham": {},
        "libri2mix": {},
        "echo2mix": {"n_fft": 512, "hop_length": 128, "sample_rate": 16000},
    }
    amp_dtype = torch.bfloat16
    inference_dtype = torch.bfloat16
    supports_compile = False

    def __init__(self, config: SPMambaConfig) -> None:
        super().__init__(config, config.num_channels, eps=config.eps)
        self.blocks = nn.ModuleList(self._create_block(config) for _ in range(config.num_blocks))

    @staticmethod
    def _create_block(config: SPMambaConfig) -> GridBlock:
        sizes = config.mamba_sizes
        return GridBlock(
            config.num_channels,
            config.num_bins,
            config.kernel_size,
            config.stride,
            lambda: MambaPair(sizes),
            2 * sizes.num_features,
            num_heads=config.num_heads,
            approximate_qk_size=config.approximate_qk_size,
            eps=config.eps,
        )

    def map_grid(self, grid: Tensor) -> Tensor:
        for block in self.blocks:
            if self.config.recompute_blocks and torch.is_grad_enabled():
                grid = checkpoint(block, grid, use_reentrant=False, preserve_rng_state=False)
            else:
                grid = block(grid)
        return grid
