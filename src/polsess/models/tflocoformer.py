"""TF-Locoformer: attention and convolution along frequency and along time; no recurrence.

Saijo, Wichern, Germain, Pan, Le Roux (2024), "TF-Locoformer: Transformer with local modeling by convolution
for speech separation and enhancement", https://arxiv.org/abs/2408.03440. As in the authors' published models,
the feed-forward networks around the attention are added whole, without the paper's factor of 1/2. Attention
may be linear: "FLASepformer" (2025), https://arxiv.org/abs/2508.19528.

Shapes: B batch, T samples, L frames, F frequency bins, D channels of the grid; N sequences of S steps,
H heads of E features.
"""

from __future__ import annotations

from typing import Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from polsess.models.layers.attention import fused_attention
from polsess.models.layers.focused_attention import FocusedOptions, GatedFocusedAttention
from polsess.models.layers.norms import RMSGroupNorm
from polsess.models.layers.positions import RotaryRates, rotate
from polsess.models.layers.products import Linear
from polsess.models.layers.spectral_model import SpectralConfig, SpectralModel
from polsess.models.layers.stft import at_least_float32
from polsess.models.registry import register_model

Axis = Literal["time", "frequency"]


class TFLocoformerConfig(SpectralConfig, FocusedOptions):
    """TF-Locoformer; the defaults are the paper's medium model of 15.0 M parameters at 8 kHz."""

    model_type: Literal["tflocoformer"] = "tflocoformer"
    n_fft: int = Field(default=128, ge=4)
    """Samples of a frame; even."""
    num_blocks: int = Field(default=6, ge=1)
    """B."""
    num_channels: int = Field(default=128, ge=1)
    """D, a multiple of ``num_groups``."""
    axis_order: Literal["frequency_first", "time_first"] = "frequency_first"
    axes: tuple[Axis, ...] | None = None
    """Axes of the paths of one block, where it is not one path along each in ``axis_order``."""
    attentions: tuple[Literal["softmax", "focused"], ...] = ("softmax",)
    """Attention of each path, from the first on; a shorter list is repeated. Focused attention is linear: its
    cost grows with the number of frames."""
    num_heads: int = Field(default=4, ge=1)
    """H."""
    attention_size: int = Field(default=128, ge=2)
    """Features of all heads together; an even number for each head."""
    ffn_hidden_sizes: tuple[int, ...] = (384, 384)
    """C, of the feed-forward networks before and after the attention; one number: only after."""
    ffn_gated: bool = True
    """Conv-SwiGLU; else a plain convolution with SiLU."""
    kernel_size: int = Field(default=4, ge=1)
    """K, of the convolutions in the feed-forward networks."""
    stride: int = Field(default=1, ge=1)
    """S, at most ``kernel_size``."""
    norm_type: Literal["rmsgroupnorm", "layernorm"] = "rmsgroupnorm"
    num_groups: int = Field(default=4, ge=1)
    """G, groups of channels of the RMSGroupNorm; 1 with ``layernorm``, which has none."""
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share dropped in training: attention weights and output, gated features and output."""
    eps: float = Field(default=1e-5, gt=0.0)
    """Added to root mean squares, and to the variance in ``layernorm`` and in the first norm."""
    normalize_variance: bool = True
    """Whether the network sees the mixture at unit variance; estimates keep the mixture's level."""

    @property
    def path_axes(self) -> tuple[Axis, ...]:
        """Axis of every path, in their order."""
        order: tuple[Axis, Axis] = ("frequency", "time")
        if self.axis_order == "time_first":
            order = ("time", "frequency")
        return (order if self.axes is None else self.axes) * self.num_blocks

    @model_validator(mode="after")
    def _focused_attention_fits(self) -> Self:
        if self.axes is not None and not 1 <= len(self.axes) <= 64:
            raise ValueError(f"axes: expected 1 to 64 of them, got {len(self.axes)}.")
        if not self.attentions:
            raise ValueError("attentions: expected at least one.")
        self.check_focused(self.num_channels)
        return self

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        if self.num_channels % self.num_groups:
            raise ValueError(
                f"num_channels={self.num_channels} must be a multiple of num_groups={self.num_groups}."
            )
        if self.norm_type == "layernorm" and self.num_groups != 1:
            raise ValueError(f"num_groups={self.num_groups}: layernorm has no groups; write num_groups=1.")
        if self.attention_size % (2 * self.num_heads):
            raise ValueError(
                f"attention_size={self.attention_size}: expected an even number for each of the heads."
            )
        if self.stride > self.kernel_size:
            raise ValueError(f"stride={self.stride} must be at most kernel_size={self.kernel_size}.")
        if len(self.ffn_hidden_sizes) not in (1, 2) or min(self.ffn_hidden_sizes) < 1:
            raise ValueError(
                f"ffn_hidden_sizes={self.ffn_hidden_sizes}: expected one or two positive numbers."
            )
        return self


class ConvFeedForward(nn.Module):
    """Convolution, activation, transposed convolution along one axis of the grid.

    Args:
        config: The model's configuration.
        hidden_size: C.
        axis: The axis of the convolutions.
    """

    def __init__(self, config: TFLocoformerConfig, hidden_size: int, axis: Axis) -> None:
        super().__init__()
        kernel, stride = config.kernel_size, config.stride
        expanded = 2 * hidden_size if config.ffn_gated else hidden_size
        self.gated = config.ffn_gated
        self.frequency = axis == "frequency"
        self.conv = nn.Conv1d(config.num_channels, expanded, kernel, stride)
        self.deconv = nn.ConvTranspose1d(hidden_size, config.num_channels, kernel, stride)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, grid: Tensor) -> Tensor:
        """``[B, L, F, D]`` -> ``[B, L, F, D]``."""
        # As two-dimensional convolutions with channels last: the grid is never transposed.
        length = grid.shape[2 if self.frequency else 1]
        features = F.pad(grid, self._padding(length)).permute(0, 3, 1, 2)  # [B, D, L', F']
        stride = self._along(self.conv.stride[0], 1)
        features = F.conv2d(features, self._kernel(self.conv), self.conv.bias, stride)
        features = self.dropout(self._activate(features))
        features = F.conv_transpose2d(features, self._kernel(self.deconv), self.deconv.bias, stride)
        kept = features.permute(0, 2, 3, 1).narrow(2 if self.frequency else 1, self._overlap, length)
        return self.dropout(kept)

    @property
    def _overlap(self) -> int:
        return self.conv.kernel_size[0] - self.conv.stride[0]

    def _padding(self, length: int) -> tuple[int, ...]:
        """Zeros for ``torch.nn.functional.pad``: every step lies in equally many kernels."""
        stride = self.conv.stride[0]
        behind = self._overlap + (-(length + self._overlap)) % stride
        return (0, 0, self._overlap, behind) if self.frequency else (0, 0, 0, 0, self._overlap, behind)

    def _activate(self, features: Tensor) -> Tensor:
        if not self.gated:
            return F.silu(features)
        linear, gate = features.chunk(2, dim=1)
        return linear * F.silu(gate)

    def _kernel(self, convolution: nn.Conv1d | nn.ConvTranspose1d) -> Tensor:
        return convolution.weight.unsqueeze(2 if self.frequency else 3)

    def _along(self, value: int, across: int) -> tuple[int, int]:
        return (across, value) if self.frequency else (value, across)


class RotaryAttention(nn.Module):
    """Multi-head self-attention with rotary positions and no biases.

    Args:
        config: The model's configuration.
        rotation: The rates that all attentions along one axis share.
    """

    def __init__(self, config: TFLocoformerConfig, rotation: RotaryRates) -> None:
        super().__init__()
        self.rotation = rotation
        self.num_heads = config.num_heads
        self.dropout = nn.Dropout(config.dropout)
        self.to_qkv = Linear(config.num_channels, 3 * config.attention_size, bias=False)
        self.to_output = Linear(config.attention_size, config.num_channels, bias=False)

    def forward(self, sequences: Tensor) -> Tensor:
        """``[N, S, D]`` -> ``[N, S, D]``."""
        qkv = self.to_qkv(sequences).unflatten(-1, (3, self.num_heads, -1))
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # each [N, H, S, E]
        query, key = self._rotate(query), self._rotate(key)
        heads = self._attend(query, key, value, self.dropout.p if self.training else 0.0)
        return self.dropout(self.to_output(heads.transpose(1, 2).flatten(2)))

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, dropout: float) -> Tensor:
        return fused_attention(query, key, value, dropout=dropout)

    def _rotate(self, heads: Tensor) -> Tensor:
        precise = at_least_float32(heads)
        cosines, sines = self.rotation(heads.shape[-2], precise)
        return rotate(precise, cosines, sines).to(heads.dtype)


class LocoformerPath(nn.Module):
    """Feed-forward, attention, feed-forward along one axis; each with a norm before and a residual.

    Args:
        config: The model's configuration.
        axis: The axis of the path.
        attention: Maps sequences ``[N, S, D]`` to the same shape.
    """

    def __init__(self, config: TFLocoformerConfig, axis: Axis, attention: nn.Module) -> None:
        super().__init__()
        self.axis = axis

        def feed_forward(hidden_size: int) -> nn.Sequential:
            return nn.Sequential(create_norm(config), ConvFeedForward(config, hidden_size, axis))

        *before, after = config.ffn_hidden_sizes
        self.ffn_before = feed_forward(before[0]) if before else None
        focused = isinstance(attention, GatedFocusedAttention)  # has norms and a residual of its own
        self.attention_norm = nn.Identity() if focused else create_norm(config)
        self.attention = attention
        self.ffn_after = feed_forward(after)

    def forward(self, grid: Tensor) -> Tensor:
        """``[B, L, F, D]`` -> ``[B, L, F, D]``."""
        if self.ffn_before is not None:
            grid = grid + self.ffn_before(grid)
        grid = grid + self._attend(self.attention_norm(grid))
        return grid + self.ffn_after(grid)

    def _attend(self, grid: Tensor) -> Tensor:
        rows = grid if self.axis == "frequency" else grid.transpose(1, 2)
        attended = self.attention(rows.flatten(0, 1)).view(rows.shape)
        return attended if self.axis == "frequency" else attended.transpose(1, 2)


def create_norm(config: TFLocoformerConfig) -> nn.Module:
    """The norm of a path, over the channels of each bin."""
    if config.norm_type == "layernorm":
        return nn.LayerNorm(config.num_channels, eps=config.eps)
    return RMSGroupNorm(config.num_channels, config.num_groups, config.eps)


_SMALL = {"num_blocks": 4, "num_channels": 96, "ffn_hidden_sizes": [128, 128], "kernel_size": 8}


@register_model("tflocoformer", TFLocoformerConfig)
class TFLocoformer(SpectralModel):
    """TF-Locoformer."""

    config: TFLocoformerConfig
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
        },
        "small": _SMALL,
        "medium": {},
        "large": {"num_blocks": 9},
        "wsj0_2mix": {},
        "libri2mix": {},
        "whamr": {"n_fft": 256, "ffn_hidden_sizes": [192, 192], "kernel_size": 8},
        "whamr_small": {**_SMALL, "n_fft": 256},
        "focused_medium": {"attentions": ["softmax", "focused"]},
        "focused_large": {"attentions": ["softmax", "focused"], "num_blocks": 9},
        "dns_ins20": {"n_fft": 256, "hop_length": 128, "sample_rate": 16000, "num_sources": 1},
    }
    amp_dtype = torch.bfloat16
    inference_dtype = torch.bfloat16
    reduced_training_on_cpu = "faster"

    def __init__(self, config: TFLocoformerConfig) -> None:
        super().__init__(
            config, config.num_channels, eps=config.eps, normalize_variance=config.normalize_variance
        )
        head_size = config.attention_size // config.num_heads
        rotations: dict[Axis, RotaryRates] = {axis: RotaryRates(head_size) for axis in ("frequency", "time")}
        paths = [
            LocoformerPath(config, axis, self._create_attention(config, index, axis, rotations[axis]))
            for index, axis in enumerate(config.path_axes)
        ]
        self.paths = nn.Sequential(*paths)

    def _create_attention(
        self, config: TFLocoformerConfig, index: int, axis: Axis, rotation: RotaryRates
    ) -> nn.Module:
        if config.attentions[index % len(config.attentions)] == "softmax":
            return self.create_attention(config, axis, rotation)
        return config.create_focused(config.num_channels, config.attention_size, config.num_heads)

    @staticmethod
    def create_attention(config: Any, axis: Axis, rotation: RotaryRates) -> nn.Module:  # noqa: ARG004
        """The attention of one path with fresh weights; all paths along an axis share the rotation."""
        return RotaryAttention(config, rotation)

    def map_grid(self, grid: Tensor) -> Tensor:
        return self.paths(grid)
