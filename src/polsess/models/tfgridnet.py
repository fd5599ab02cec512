"""TF-GridNet: bidirectional LSTMs along frequency and along time, and attention over whole frames.

Wang, Cornell, Choi, Lee, Kim, Watanabe (2023), "TF-GridNet: Integrating full- and sub-band modeling for
speech separation", https://arxiv.org/abs/2211.12433. Complex-spectral mapping: there are no masks.

Shapes: B batch, C sources, T samples, L frames, F frequency bins, D channels of the grid.
"""

from __future__ import annotations

from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from polsess.models.layers.kernels import recurrent_native
from polsess.models.layers.recurrent import LSTM
from polsess.models.layers.spectral_model import SpectralConfig, SpectralModel
from polsess.models.layers.tf_grid import GridBlock, check_grid
from polsess.models.registry import register_model


class TFGridNetConfig(SpectralConfig):
    """TF-GridNet; the defaults are the paper's model of 14.5 M parameters at 8 kHz."""

    model_type: Literal["tfgridnet"] = "tfgridnet"
    version: Literal[1, 2] = 2
    """How sequences are cut into windows: 1 pads behind only, until the last window fits; 2 pads both ends by
    ``kernel_size - stride``, so that every step lies in equally many windows, and gives each step of a window
    a bias of its own where windows do not overlap."""
    num_blocks: int = Field(default=6, ge=1)
    """B."""
    num_channels: int = Field(default=64, ge=1)
    """D, a multiple of ``num_heads``."""
    kernel_size: int = Field(default=4, ge=1)
    """I, neighbouring frequencies (frames) that the LSTM sees in one step."""
    stride: int = Field(default=1, ge=1)
    """J, at most ``kernel_size``."""
    hidden_size: int = Field(default=256, ge=1)
    """H, units of each direction."""
    num_heads: int = Field(default=4, ge=1)
    """L, heads of the attention over frames."""
    approximate_qk_size: int = Field(default=512, ge=1)
    """Length of a query of a head over a whole frame, rounded up to a multiple of the number of bins; E is
    the multiple."""
    eps: float = Field(default=1e-5, gt=0.0)
    """Added to variances in the norms."""

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        check_grid(self.num_channels, self.num_heads, self.kernel_size, self.stride)
        return self


class RowwiseLSTM(LSTM):
    """A bidirectional LSTM over independent rows, ``[N, W, features]`` -> ``[N, W, 2 * hidden]``."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size, batch_first=True, bidirectional=True)

    def forward(self, rows: Tensor) -> Tensor:  # type: ignore[override]
        """Run; PyTorch's operator without gradients on a CPU in blocks, whose intermediates stay in cache."""
        operator = rows.device.type == "cpu" and not recurrent_native.is_available("lstm", rows)
        if torch.is_grad_enabled() or torch.compiler.is_compiling() or not operator:
            return super().forward(rows)[0]
        return torch.cat([super(RowwiseLSTM, self).forward(block)[0] for block in rows.split(64)])


@register_model("tfgridnet", TFGridNetConfig)
class TFGridNet(SpectralModel):
    """TF-GridNet, versions 1 and 2."""

    config: TFGridNetConfig
    presets = {
        "tiny": {
            "n_fft": 32,
            "hop_length": 16,
            "num_blocks": 2,
            "num_channels": 8,
            "kernel_size": 3,
            "hidden_size": 6,
            "num_heads": 2,
            "approximate_qk_size": 30,
        },
        "wsj0_2mix": {},
        "icassp": {"n_fft": 128, "num_channels": 48, "hidden_size": 192},
        "small": {"num_blocks": 4, "num_channels": 32, "hidden_size": 96},
    }
    amp_dtype = torch.bfloat16
    inference_dtype = torch.bfloat16
    reduced_training_on_cpu = "faster"

    def __init__(self, config: TFGridNetConfig) -> None:
        super().__init__(config, config.num_channels, eps=config.eps)
        self.blocks = nn.Sequential(*(self._create_block(config) for _ in range(config.num_blocks)))

    @staticmethod
    def _create_block(config: TFGridNetConfig) -> GridBlock:
        return GridBlock(
            config.num_channels,
            config.num_bins,
            config.kernel_size,
            config.stride,
            lambda: RowwiseLSTM(config.kernel_size * config.num_channels, config.hidden_size),
            2 * config.hidden_size,
            num_heads=config.num_heads,
            approximate_qk_size=config.approximate_qk_size,
            eps=config.eps,
            pad_both_ends=config.version == 2,
        )

    def map_grid(self, grid: Tensor) -> Tensor:
        return self.blocks(grid)
