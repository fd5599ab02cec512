"""Focused linear attention: its cost grows with the length, not with its square.

Han, Pan, Han, Song, Huang (2023), "FLatten transformer", https://arxiv.org/abs/2308.00442; with a gate, for
separation: "FLASepformer" (2025), https://arxiv.org/abs/2508.19528.

Shapes: N sequences of S steps, D channels, H heads of E features.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from polsess.models.layers.attention import by_head
from polsess.models.layers.norms import RMSGroupNorm, without_decay
from polsess.models.layers.products import Linear
from polsess.models.layers.stft import at_least_float32, without_autocast
from polsess.schema import Schema


class FocusedLinearAttention(nn.Module):
    """Attention whose kernel is a power of the rectified features, and a convolution of the values.

    Args:
        num_channels: Of the input.
        attention_size: D, a multiple of ``num_heads``.
        num_heads: H.
        kernel_size: Taps of the convolution, odd; 0 for none.
        power: The larger, the more a query looks at few keys.
    """

    def __init__(
        self,
        num_channels: int,
        attention_size: int,
        num_heads: int,
        *,
        kernel_size: int = 5,
        power: int = 3,
    ) -> None:
        super().__init__()
        self.num_heads, self.power = num_heads, power
        self.scale = without_decay(nn.Parameter(torch.zeros(attention_size)))
        self.to_query = Linear(num_channels, attention_size)
        self.to_key_value = Linear(num_channels, 2 * attention_size)
        self.to_output = Linear(attention_size, num_channels)
        size = attention_size // num_heads
        self.local = (
            nn.Conv1d(size, size, kernel_size, padding=kernel_size // 2, groups=size) if kernel_size else None
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Map ``[N, S, num_channels]`` to the same shape."""
        query = self.to_query(tokens)
        key, value = self.to_key_value(tokens).chunk(2, dim=-1)
        with without_autocast(tokens):  # powers and sums over the whole length
            query, key = self._focus(at_least_float32(query)), self._focus(at_least_float32(key))
            values = by_head(at_least_float32(value), self.num_heads)
            mean = key.mean(dim=-2, keepdim=True).mT  # [N, H, E, 1]
            sums = key.mT @ (values / values.shape[-2])  # [N, H, E, E]
            mixed = (query @ sums) / (query @ mean + 1e-6)
        mixed = mixed.to(value.dtype)
        if self.local is not None:
            heads = by_head(value, self.num_heads)
            mixed = mixed + self.local(heads.flatten(0, 1).mT).mT.view(heads.shape)
        return self.to_output(mixed.transpose(1, 2).flatten(2))

    def _focus(self, features: Tensor) -> Tensor:
        """Positive features ``[N, H, S, E]`` of unchanged length over all heads, the large ones larger."""
        positive = (features.relu() + 1e-6) / F.softplus(self.scale.to(features.dtype))
        length = torch.linalg.vector_norm(positive, dim=-1, keepdim=True)
        powers = positive**self.power
        focused = powers / (torch.linalg.vector_norm(powers, dim=-1, keepdim=True) + 1e-8) * length
        return by_head(focused, self.num_heads)


class GatedFocusedAttention(nn.Module):
    """Norm, focused attention, a gate, and the input added.

    Args:
        attention: The attention.
        num_channels: Of the input.
        create_norm: Builds a norm over the channels.
        gated: Whether a gate scales what is added.
    """

    def __init__(
        self,
        attention: FocusedLinearAttention,
        num_channels: int,
        create_norm: Callable[[], nn.Module],
        *,
        gated: bool = True,
    ) -> None:
        super().__init__()
        self.norm = create_norm()
        self.attention = attention
        self.gate = nn.Sequential(create_norm(), Linear(num_channels, num_channels)) if gated else None

    def forward(self, tokens: Tensor) -> Tensor:
        """Map ``[N, S, D]`` to the same shape."""
        added = self.attention(self.norm(tokens))
        return tokens + (added if self.gate is None else self.gate(tokens).sigmoid() * added)


class FocusedOptions(Schema):
    """The options of focused attention, as fields of a model's configuration."""

    focused_gated: bool = True
    """Whether a gate scales the output of focused attention."""
    focused_norm_groups: int = Field(default=0, ge=0)
    """Groups of the RMSGroupNorm before focused attention; 0 for layer normalisation."""
    focused_kernel_size: int = Field(default=5, ge=0, le=255)
    """Taps, odd, of the convolution of the values beside focused attention; 0 for none."""
    focused_power: int = Field(default=3, ge=1, le=16)
    """The larger, the more focused attention looks at few keys."""

    def check_focused(self, num_channels: int) -> None:
        """Check the options against the channels of the model.

        Raises:
            ValueError: If they do not fit.
        """
        if self.focused_kernel_size and self.focused_kernel_size % 2 == 0:
            raise ValueError(f"focused_kernel_size={self.focused_kernel_size}: expected an odd number or 0.")
        if self.focused_norm_groups and num_channels % self.focused_norm_groups:
            raise ValueError(
                f"focused_norm_groups={self.focused_norm_groups} must divide the {num_channels} channels."
            )

    def create_focused(self, num_channels: int, attention_size: int, num_heads: int) -> GatedFocusedAttention:
        """The attention with its norms and its gate."""

        def create_norm() -> nn.Module:
            if self.focused_norm_groups == 0:
                return nn.LayerNorm(num_channels)
            return RMSGroupNorm(num_channels, self.focused_norm_groups, 1e-5)

        attention = FocusedLinearAttention(
            num_channels,
            attention_size,
            num_heads,
            kernel_size=self.focused_kernel_size,
            power=self.focused_power,
        )
        return GatedFocusedAttention(attention, num_channels, create_norm, gated=self.focused_gated)
