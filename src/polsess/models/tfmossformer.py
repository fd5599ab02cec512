"""TF-MossFormer: TF-Locoformer whose attention is local, then global, each behind a convolutional gate.

arXiv 2607.21128 (2026), https://arxiv.org/abs/2607.21128. Its authors published neither code nor weights; the
original polsess project implemented it from the paper, and its checkpoints load.

Shapes: N sequences of S steps, D channels of the grid, H heads of E features.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from polsess.models.layers.attention import fused_attention
from polsess.models.layers.positions import RotaryRates
from polsess.models.registry import register_model
from polsess.models.tflocoformer import Axis, RotaryAttention, TFLocoformer, TFLocoformerConfig

_BLOCK = 128
"""Steps whose local attention is computed at once."""


class TFMossFormerConfig(TFLocoformerConfig):
    """TF-MossFormer; the defaults are the paper's size M of 17.3 M parameters at 8 kHz."""

    model_type: Literal["tfmossformer"] = "tfmossformer"  # type: ignore[assignment]
    window_time: int = Field(default=31, ge=1)
    """Frames that the local attention along time sees, centred; an even number counts one less."""
    window_frequency: int = Field(default=7, ge=1)
    """Bins that the local attention along frequency sees, centred; an even number counts one less."""
    gate_kernel_size: int = Field(default=4, ge=1)
    """Taps of the gates' convolutions."""


@register_model("tfmossformer", TFMossFormerConfig)
class TFMossFormer(TFLocoformer):
    """TF-Locoformer with gated local and global attention."""

    config: TFMossFormerConfig
    presets = {
        "tiny": {
            "n_fft": 32,
            "hop_length": 16,
            "num_blocks": 2,
            "num_channels": 8,
            "num_heads": 2,
            "num_groups": 2,
            "attention_size": 8,
            "ffn_hidden_sizes": [10, 6],
            "window_time": 5,
            "window_frequency": 3,
        },
        "small": {"num_blocks": 4, "num_channels": 96, "attention_size": 96, "ffn_hidden_sizes": [256, 256]},
        "medium": {},
        "large": {"num_blocks": 9},
        "medium-16k": {"n_fft": 256, "hop_length": 128, "sample_rate": 16000},
    }

    @staticmethod
    def create_attention(config: TFMossFormerConfig, axis: Axis, rotation: RotaryRates) -> nn.Module:
        window = config.window_time if axis == "time" else config.window_frequency
        return GatedAttention(config, rotation, (window - 1) // 2)


class GatedAttention(nn.Module):
    """Local, then global attention; each output times a gate computed from its input.

    Args:
        config: The model's configuration.
        rotation: The rates that all attentions along one axis share.
        reach: Steps to either side that the local attention sees.
    """

    def __init__(self, config: TFMossFormerConfig, rotation: RotaryRates, reach: int) -> None:
        super().__init__()
        self.local_attention = LocalAttention(config, rotation, reach)
        self.local_gate = ConvGate(config.num_channels, config.gate_kernel_size)
        self.global_attention = RotaryAttention(config, rotation)
        self.global_gate = ConvGate(config.num_channels, config.gate_kernel_size)

    def forward(self, sequences: Tensor) -> Tensor:
        """``[N, S, D]`` -> ``[N, S, D]``."""
        sequences = self.local_attention(sequences) * self.local_gate(sequences)
        return self.global_attention(sequences) * self.global_gate(sequences)


class LocalAttention(RotaryAttention):
    """Attention to neighbouring steps only, in blocks: its cost grows with the length, not with its square.

    Args:
        config: The model's configuration.
        rotation: The rates that all attentions along one axis share.
        reach: Steps to either side.
    """

    def __init__(self, config: TFMossFormerConfig, rotation: RotaryRates, reach: int) -> None:
        super().__init__(config, rotation)
        self.reach = reach

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, dropout: float) -> Tensor:
        length = query.shape[-2]
        size = length if torch.compiler.is_compiling() else max(_BLOCK, 2 * self.reach)  # a graph has no loop
        steps = torch.arange(length, device=query.device)
        blocks = []
        for start in range(0, length, size):
            inner = slice(start, start + size)
            outer = slice(max(0, start - self.reach), start + size + self.reach)
            near = (steps[inner, None] - steps[outer]).abs() <= self.reach
            blocks.append(
                fused_attention(query[..., inner, :], key[..., outer, :], value[..., outer, :], near, dropout)
            )
        return torch.cat(blocks, -2)


class ConvGate(nn.Module):
    """A convolution along the sequence, and SiLU.

    Args:
        num_channels: D.
        kernel_size: Taps; of an even number one more looks back than ahead.
    """

    def __init__(self, num_channels: int, kernel_size: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(num_channels, num_channels, kernel_size)

    def forward(self, sequences: Tensor) -> Tensor:
        """``[N, S, D]`` -> ``[N, S, D]``."""
        before = self.conv.kernel_size[0] // 2
        after = self.conv.kernel_size[0] - 1 - before
        return F.silu(self.conv(F.pad(sequences.mT, (before, after)))).mT
