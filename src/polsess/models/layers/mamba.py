"""Mamba: gated selective state-space layers, in one direction or in both.

Gu, Dao (2023), "Mamba", https://arxiv.org/abs/2312.00752, figure 3; the two-directional mixer with shared
projections is that of Zhu et al. (2024), "Vision Mamba", https://arxiv.org/abs/2401.09417. The parameters of
``Mamba`` have the names of the ``mamba_ssm`` package.

Shapes: B batch, L length, M model features, D inner channels, N states of a channel, K taps, R rank of the
steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from polsess.models.layers.blocks import runs_in_blocks
from polsess.models.layers.causal_conv import causal_conv
from polsess.models.layers.norms import without_decay
from polsess.models.layers.products import Linear, linear
from polsess.models.layers.selective_scan import selective_scan

_BLOCK_TOKENS = 1 << 13  # positions of sequences that inference works on at once on a CPU
_SHORTEST_STEP, _LONGEST_STEP = 1e-3, 1e-1  # initial step sizes lie between, evenly in their logarithm


@dataclass(frozen=True)
class MambaSizes:
    """The dimensions of a mixer.

    Attributes:
        num_features: M.
        num_states: N.
        conv_kernel_size: K, taps of the convolution before the scan.
        expansion: D / M.
    """

    num_features: int
    num_states: int = 16
    conv_kernel_size: int = 4
    expansion: int = 2

    @property
    def num_channels(self) -> int:
        """D."""
        return self.expansion * self.num_features

    @property
    def step_rank(self) -> int:
        """R: step sizes are a projection of this many numbers."""
        return math.ceil(self.num_features / 16)


class SelectiveSSM(nn.Module):
    """Convolution, selection and scan: what a mixer does between its two projections.

    Args:
        sizes: The dimensions.
    """

    def __init__(self, sizes: MambaSizes) -> None:
        super().__init__()
        channels, rank, states = sizes.num_channels, sizes.step_rank, sizes.num_states
        self.conv1d = nn.Conv1d(channels, channels, sizes.conv_kernel_size, groups=channels)
        self.x_proj = Linear(channels, rank + 2 * states, bias=False)
        self.dt_proj = Linear(rank, channels)
        self.A_log = without_decay(nn.Parameter(torch.arange(1.0, states + 1).log().repeat(channels, 1)))
        self.D = nn.Parameter(torch.ones(channels))
        self._reset_steps(rank)

    def _reset_steps(self, rank: int) -> None:
        nn.init.uniform_(self.dt_proj.weight, -(rank**-0.5), rank**-0.5)
        with torch.no_grad():
            low, high = math.log(_SHORTEST_STEP), math.log(_LONGEST_STEP)
            steps = torch.empty_like(self.dt_proj.bias).uniform_(low, high).exp().clamp_min(1e-4)
            self.dt_proj.bias.copy_(steps + torch.log(-torch.expm1(-steps)))  # the softplus's inverse

    def scan(self, x: Tensor, z: Tensor, reverse: bool = False) -> Tensor:
        """Run over ``[B, L, D]`` with the gate ``[B, L, D]``, from the end to the start with ``reverse``."""
        rank, states = self.dt_proj.in_features, self.A_log.shape[1]
        u = causal_conv(x, self.conv1d.weight, self.conv1d.bias, reverse=reverse)
        steps, b, c = self.x_proj(u).split((rank, states, states), dim=-1)
        delta = linear(steps, self.dt_proj.weight)
        rates = -self.A_log.to(torch.promote_types(self.A_log.dtype, torch.float32)).exp()
        return selective_scan(
            u,
            delta,
            rates,
            b,
            c,
            self.D,
            z,
            self.dt_proj.bias,
            delta_softplus=True,
            reverse=reverse,
        )


class Mamba(SelectiveSSM):
    """One direction of a Mamba mixer.

    Args:
        sizes: The dimensions.
        reverse: Whether the sequence is read from its end.
    """

    def __init__(self, sizes: MambaSizes, reverse: bool = False) -> None:
        super().__init__(sizes)
        self.reverse = reverse
        self.in_proj = Linear(sizes.num_features, 2 * sizes.num_channels, bias=False)
        self.out_proj = Linear(sizes.num_channels, sizes.num_features, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """Map ``[B, L, M]`` to ``[B, L, M]``."""
        x, z = self.in_proj(features).chunk(2, dim=-1)
        return self.out_proj(self.scan(x, z, self.reverse))


class BidirectionalMamba(nn.Module):
    """Two scans, one from either end, between one pair of projections; their mean goes on.

    Args:
        sizes: The dimensions.
    """

    def __init__(self, sizes: MambaSizes) -> None:
        super().__init__()
        self.in_proj = Linear(sizes.num_features, 2 * sizes.num_channels, bias=False)
        self.forward_ssm = SelectiveSSM(sizes)
        self.backward_ssm = SelectiveSSM(sizes)
        self.out_proj = Linear(sizes.num_channels, sizes.num_features, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """Map ``[B, L, M]`` to ``[B, L, M]``."""
        x, z = self.in_proj(features).chunk(2, dim=-1)
        from_start, from_end = self.forward_ssm.scan(x, z), self.backward_ssm.scan(x, z, reverse=True)
        return self.out_proj(torch.lerp(from_start, from_end, 0.5))


class MambaStack(nn.Module):
    """Pre-normalised mixers with residual connections.

    Args:
        num_features: M.
        create_mixers: One function per layer that makes its mixer.
        final_norm: Whether a norm follows the last layer.
        eps: Added to the mean square in the norms.
    """

    def __init__(
        self,
        num_features: int,
        create_mixers: Sequence[Callable[[], nn.Module]],
        *,
        final_norm: bool = False,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.RMSNorm(num_features, eps) for _ in create_mixers)
        self.mixers = nn.ModuleList(create() for create in create_mixers)
        self.final_norm = nn.RMSNorm(num_features, eps) if final_norm else nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        """Map ``[B, L, M]`` to ``[B, L, M]``."""
        features = features.to(next(self.parameters()).dtype)  # under autocast the sums stay precise
        for norm, mixer in zip(self.norms, self.mixers, strict=True):
            features = features + mixer(norm(features))
        return self.final_norm(features)


class MambaPair(nn.Module):
    """Two independent stacks, one from either end, side by side.

    Args:
        sizes: The dimensions.
        num_layers: Mixers of each direction.
        eps: Added to the mean square in the norms.
    """

    def __init__(self, sizes: MambaSizes, num_layers: int = 1, eps: float = 1e-5) -> None:
        super().__init__()
        self.from_start = MambaStack(sizes.num_features, [lambda: Mamba(sizes)] * num_layers, eps=eps)
        self.from_end = MambaStack(sizes.num_features, [lambda: Mamba(sizes, True)] * num_layers, eps=eps)

    def forward(self, features: Tensor) -> Tensor:
        """Map ``[B, L, M]`` to ``[B, L, 2 * M]``; without gradients a few sequences at a time.

        The inner channels are many times the features: of all sequences of a long signal at once they would
        need gigabytes, of a few they stay near the processor.
        """
        if not runs_in_blocks():
            return self._run(features)
        tokens = _BLOCK_TOKENS if features.device.type == "cpu" else 32 * _BLOCK_TOKENS
        parts = features.split(max(1, tokens // features.shape[1]))
        first = self._run(parts[0])
        output = first.new_empty(features.shape[0], *first.shape[1:])
        output[: len(first)] = first
        for index, part in enumerate(parts[1:], start=1):
            start = index * len(first)
            output[start : start + len(part)] = self._run(part)
        return output

    def _run(self, features: Tensor) -> Tensor:
        return torch.cat([self.from_start(features), self.from_end(features)], dim=-1)
