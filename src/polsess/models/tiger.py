"""TIGER: masks for 67 bands of the spectrum from one block that is applied again and again.

Xu, Li, Chen, Hu (2025), "TIGER: Time-frequency interleaved gain extraction and reconstruction for efficient
speech separation", https://arxiv.org/abs/2410.01469. The estimates add up to the mixture, so that a network
for one source returns the mixture.

Shapes: B batch, C sources, T samples, L frames, M bands, W bins of a band, N features of a band, H features
of a U-block, R sequences of S steps.
"""

from __future__ import annotations

import functools
import itertools
from typing import Literal, Self, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from polsess.models.base import ModelConfig, SeparationModel
from polsess.models.layers.attention import fused_attention
from polsess.models.layers.blocks import runs_in_blocks
from polsess.models.layers.norms import GlobalLayerNorm, normalise_own, without_decay
from polsess.models.layers.prelu import PReLU
from polsess.models.layers.products import Linear
from polsess.models.layers.stft import STFT, at_least_float32
from polsess.models.registry import register_model

_BANDS_HZ = (*[25] * 40, *[100] * 10, *[250] * 8, *[500] * 8)
"""Widths of the bands below 8 kHz; one more band holds the rest of the spectrum."""
_MAX_NUMBERS = 1 << 24
"""Activations or attention scores held at once in inference."""


class TIGERConfig(ModelConfig):
    """TIGER; the defaults are the published large model of 0.82 M parameters."""

    model_type: Literal["tiger"] = "tiger"
    sample_rate: int = Field(default=16000, ge=1)
    n_fft: int = Field(default=640, ge=4, multiple_of=2)
    """Samples of a Hann-windowed frame; each band needs a bin."""
    hop_length: int = Field(default=160, ge=1)
    """Samples between frames."""
    num_features: int = Field(default=128, ge=1)
    """N, a multiple of ``num_heads`` and of ``num_sources``."""
    hidden_features: int = Field(default=256, ge=1)
    """H."""
    num_blocks: int = Field(default=8, ge=1)
    """Applications of the one block."""
    depth: int = Field(default=5, ge=2, le=16)
    """Resolutions in a U-block, each half as fine as the one before."""
    num_heads: int = Field(default=4, ge=1)
    """Attention heads."""
    query_key_features: int = Field(default=4, ge=1)
    """Features of a query and a key in each bin or frame."""

    @property
    def band_widths(self) -> list[int]:
        """Bins of every band."""
        num_bins = self.n_fft // 2 + 1
        widths = [2 * hertz * num_bins // self.sample_rate for hertz in _BANDS_HZ]
        return [*widths, num_bins - sum(widths)]

    @model_validator(mode="after")
    def _check(self) -> Self:
        STFT(self.n_fft, self.hop_length)
        if self.sample_rate < 2 * sum(_BANDS_HZ):
            raise ValueError(
                f"sample_rate={self.sample_rate}: the bands reach {sum(_BANDS_HZ)} Hz; "
                f"expected at least {2 * sum(_BANDS_HZ)}."
            )
        if min(self.band_widths) < 1:
            least = 2 * (-(-self.sample_rate // (2 * _BANDS_HZ[0])) - 1)
            raise ValueError(
                f"n_fft={self.n_fft} leaves a band without a bin at {self.sample_rate} Hz; "
                f"expected at least {least}."
            )
        for name, divisor in (("num_heads", self.num_heads), ("num_sources", self.num_sources)):
            if self.num_features % divisor:
                raise ValueError(f"num_features={self.num_features} must be a multiple of {name}={divisor}.")
        return self


@register_model("tiger", TIGERConfig)
class TIGER(SeparationModel):
    """Bands in, one block along frequency and along time applied several times, complex masks out."""

    config: TIGERConfig
    presets = {
        "tiny": {
            "num_features": 12,
            "hidden_features": 16,
            "num_blocks": 2,
            "depth": 3,
            "num_heads": 2,
            "hop_length": 320,
        },
        "large": {},
        "small": {"num_blocks": 4},
    }

    def __init__(self, config: TIGERConfig) -> None:
        super().__init__(config)
        self.transform = STFT(config.n_fft, config.hop_length)
        runs = [(width, len([*same])) for width, same in itertools.groupby(config.band_widths)]
        self.encoders = nn.ModuleList(BandEncoder(config, width, number) for width, number in runs)
        self.scale = nn.Parameter(torch.ones(config.num_features))
        self.offset = nn.Parameter(torch.zeros(config.num_features))
        self.activation = PReLU()
        self.frequency_path = Path(config)
        self.time_path = Path(config)
        self.masks = nn.ModuleList(BandMasks(config, width, number) for width, number in runs)
        if config.num_blocks == 1:  # published files hold what joins the blocks in any case
            for parameter in (self.scale, self.offset, self.activation.weight):
                parameter.requires_grad_(False)

    @property
    def hop_length(self) -> int:
        return self.config.hop_length

    @property
    def minimum_samples(self) -> int:
        """The shortest mixture that can be padded by reflection."""
        return self.transform.minimum_samples

    def estimate_sources(self, mixture: Tensor) -> Tensor:
        spectrum = self.transform.analyse(mixture)  # [B, L, F]
        parts = torch.view_as_real(spectrum).to(self.scale.dtype)
        widths = [encoder.num_bins for encoder in self.encoders]
        first = torch.cat(
            [encoder(part) for encoder, part in zip(self.encoders, parts.split(widths, 2), strict=True)], 2
        )  # [B, L, M, N]
        grid = self._separate(first)
        bands = grid.split([encoder.num_bands for encoder in self.encoders], 2)
        masks = torch.cat([mask(band) for mask, band in zip(self.masks, bands, strict=True)], -1)
        masks = at_least_float32(masks)  # [B, 2, C, L, F], real and imaginary parts
        excess = masks.sum(2, keepdim=True) - masks.new_tensor([1.0, 0.0]).view(1, 2, 1, 1, 1)
        real, imaginary = (masks - excess / self.output_sources).unbind(1)
        return self.transform.synthesise(
            torch.complex(real, imaginary) * spectrum[:, None], mixture.shape[-1]
        )

    def _separate(self, first: Tensor) -> Tensor:
        """The block applied to ``[B, L, M, N]``, several times."""
        grid = first
        for index in range(self.config.num_blocks):
            if index > 0:
                grid = self.activation((first + grid) * self.scale + self.offset)
            grid = grid + self.frequency_path(grid)
            grid = grid + self.time_path(grid.transpose(1, 2)).transpose(1, 2)
        return grid


class BandEncoder(nn.Module):
    """Features of neighbouring bands of one width.

    Args:
        config: The model's configuration.
        width: W.
        num_bands: M.
    """

    def __init__(self, config: TIGERConfig, width: int, num_bands: int) -> None:
        super().__init__()
        self.num_bands = num_bands
        self.num_bins = num_bands * width
        self.norm_weight = without_decay(nn.Parameter(torch.ones(num_bands, 2 * width)))
        self.norm_bias = without_decay(nn.Parameter(torch.zeros(num_bands, 2 * width)))
        self.weight = _uniform(num_bands, config.num_features, 2 * width, fan_in=2 * width)
        self.bias = without_decay(_uniform(num_bands, config.num_features, fan_in=2 * width))

    def forward(self, parts: Tensor) -> Tensor:
        """Map bins ``[B, L, M * W, 2]`` to ``[B, L, M, N]``; each band is normalised over its utterance."""
        bands = parts.unflatten(2, (self.num_bands, -1)).transpose(3, 4).flatten(3)  # [B, L, M, 2W]
        variance, mean = torch.var_mean(bands, (1, 3), correction=0, keepdim=True)
        bands = (bands - mean) * (variance + 2.0**-23).rsqrt() * self.norm_weight + self.norm_bias
        return torch.einsum("blmw,mnw->blmn", bands, self.weight) + self.bias


class BandMasks(nn.Module):
    """Complex masks of neighbouring bands of one width.

    Args:
        config: The model's configuration.
        width: W.
        num_bands: M.
    """

    def __init__(self, config: TIGERConfig, width: int, num_bands: int) -> None:
        super().__init__()
        self.num_sources = config.num_sources
        features = config.num_features // config.num_sources
        self.slope = without_decay(nn.Parameter(torch.full((num_bands, 1), 0.25)))
        # The groups of published convolutions are as many as the sources, yet are not the sources.
        self.weight = _uniform(num_bands, config.num_sources, 4 * width, features, fan_in=features)
        self.bias = without_decay(_uniform(num_bands, config.num_sources * 4 * width, fan_in=features))

    def forward(self, bands: Tensor) -> Tensor:
        """Map ``[B, L, M, N]`` to real and imaginary parts ``[B, 2, C, L, M * W]``."""
        bands = torch.where(bands > 0, bands, self.slope * bands).unflatten(-1, (self.num_sources, -1))
        output = torch.einsum("blmgn,mgwn->blmgw", bands, self.weight).flatten(3) + self.bias
        value, gate = output.unflatten(-1, (2, 2, self.num_sources, -1)).unbind(3)  # [B, L, M, 2, C, W]
        return (value * gate.sigmoid()).permute(0, 3, 4, 1, 2, 5).flatten(4)


class Path(nn.Module):
    """A U-block along one axis, attention over the same axis, and a norm.

    Args:
        config: The model's configuration.
    """

    def __init__(self, config: TIGERConfig) -> None:
        super().__init__()
        self.u_block = UBlock(config.num_features, config.hidden_features, config.depth)
        self.attention = AxisAttention(config)
        self.norm = nn.LayerNorm(config.num_features)

    def forward(self, grid: Tensor) -> Tensor:
        """Map ``[B, A, S, N]`` to the same shape along S; only the attention also looks along A."""
        sequences = grid.flatten(0, 1)
        if runs_in_blocks():
            rows = max(1, _MAX_NUMBERS // (self.u_block.hidden_features * sequences.shape[1]))
            sequences = torch.cat([self.u_block(part) for part in sequences.split(rows)])
        else:
            sequences = self.u_block(sequences)
        return self.norm(self.attention(sequences.view(grid.shape)))


class UBlock(nn.Module):
    """Depthwise convolutions at several resolutions, joined through their sum at the coarsest.

    Works on ``[R, H, 1, S]``: with a spare dimension PyTorch has kernels for either order in memory. On a CPU
    those for features innermost are faster, but not their way back.

    Args:
        num_features: N.
        hidden_features: H.
        depth: Number of resolutions.
    """

    def __init__(self, num_features: int, hidden_features: int, depth: int) -> None:
        super().__init__()
        self.hidden_features = hidden_features
        self.expand = Linear(num_features, hidden_features)
        self.norm = GlobalLayerNorm(hidden_features)
        self.activation = PReLU()
        self.scales = nn.ModuleList(
            NormalizedConv(_depthwise(hidden_features, 5, stride=1 if index == 0 else 2))
            for index in range(depth)
        )
        self.mixing = nn.Sequential(
            StepConv(hidden_features, hidden_features, 1, bias=False),
            GlobalLayerNorm(hidden_features),
            _depthwise(hidden_features, 5),
            nn.ReLU(),
            nn.Dropout(0.1),
            StepConv(hidden_features, hidden_features, 1, bias=False),
            GlobalLayerNorm(hidden_features),
            nn.Dropout(0.1),
        )
        self.fusions = nn.ModuleList(Injection(hidden_features, 1) for _ in range(depth))
        self.expansions = nn.ModuleList(Injection(hidden_features, 5) for _ in range(depth - 1))
        self.reduce = Linear(hidden_features, num_features)
        if depth > 2:  # published files hold a fusion of the coarsest resolution, which nothing uses
            self.fusions[-1].requires_grad_(False)

    def forward(self, sequences: Tensor) -> Tensor:
        """Map ``[R, S, N]`` to ``[R, S, N]``; the sequences do not see each other."""
        scale = self.expand(sequences).mT.unsqueeze(2)
        if torch.is_grad_enabled() or scale.device.type != "cpu":
            scale = scale.contiguous()
        scale = normalise_own(self.norm, scale, self.activation.weight)
        scales = [scale := conv(scale) for conv in self.scales]
        pooled = [F.adaptive_avg_pool2d(each, scales[-1].shape[-2:]) for each in scales]
        mixed = self.mixing(functools.reduce(torch.add, pooled))  # [R, H, 1, S']
        needed = len(scales) if len(scales) == 2 else len(scales) - 1
        fused = [fuse(each, mixed) for fuse, each in zip(self.fusions[:needed], scales[:needed], strict=True)]
        last = len(scales) - 2
        # As published, the top-down path starts from two neighbours below the coarsest resolution.
        expanded = self.expansions[last](fused[last], fused[last - 1])
        for index in reversed(range(last)):
            expanded = self.expansions[index](fused[index], expanded)
        return self.reduce(expanded.squeeze(2).mT) + sequences


class StepConv(nn.Conv1d):
    """A convolution of ``[R, H, 1, S]`` along S."""

    def forward(self, input: Tensor) -> Tensor:
        weight, stride, padding = self.weight.unsqueeze(2), (1, self.stride[0]), (0, self.kernel_size[0] // 2)
        return F.conv2d(input, weight, self.bias, stride, padding, groups=self.groups)


class NormalizedConv(nn.Sequential):
    """A convolution of ``[R, H, 1, S]`` and the norm of what it gives.

    Args:
        conv: The convolution.
    """

    def __init__(self, conv: StepConv) -> None:
        super().__init__(conv, GlobalLayerNorm(conv.out_channels))

    def forward(self, input: Tensor) -> Tensor:
        return normalise_own(cast(GlobalLayerNorm, self[1]), self[0](input))


class Injection(nn.Module):
    """Local features scaled and shifted by coarser ones.

    Args:
        num_features: H.
        kernel_size: Taps of the depthwise convolutions.
    """

    def __init__(self, num_features: int, kernel_size: int) -> None:
        super().__init__()
        self.local, self.gate, self.shift = (
            NormalizedConv(_depthwise(num_features, kernel_size, bias=False)) for _ in range(3)
        )

    def forward(self, local: Tensor, coarse: Tensor) -> Tensor:
        """Map ``[R, H, 1, S]`` and ``[R, H, 1, S']`` to ``[R, H, 1, S]``."""
        size = local.shape[-2:]
        gate = F.interpolate(self.gate(coarse).sigmoid(), size)
        return self.local(local) * gate + F.interpolate(self.shift(coarse), size)


class AxisAttention(nn.Module):
    """Attention over one axis whose tokens hold the features of the whole other axis.

    Args:
        config: The model's configuration.
    """

    def __init__(self, config: TIGERConfig) -> None:
        super().__init__()
        features, heads = config.num_features, config.num_heads
        self.query = HeadProjection(features, heads, config.query_key_features)
        self.key = HeadProjection(features, heads, config.query_key_features)
        self.value = HeadProjection(features, heads, features // heads)
        self.output = nn.Sequential(Linear(features, features), PReLU(), nn.LayerNorm(features))

    def forward(self, grid: Tensor) -> Tensor:
        """Map ``[B, A, S, N]`` to the same shape, attending over S."""
        num_rows = grid.shape[1]
        query, key, value = self.query(grid), self.key(grid), self.value(grid)  # [B, heads, S, A * features]
        size = query.shape[2]
        if runs_in_blocks():
            size = max(1, _MAX_NUMBERS // (query.shape[0] * query.shape[1] * size))
        mixed = [fused_attention(part, key, value) for part in query.split(size, dim=2)]
        heads = torch.cat(mixed, 2).unflatten(-1, (num_rows, -1))  # [B, heads, S, A, N / heads]
        return self.output(heads.permute(0, 3, 2, 1, 4).flatten(3)) + grid


class HeadProjection(nn.Module):
    """A linear map for every head, rectified with a slope of its own and normalised over its features.

    Args:
        num_features: N.
        num_heads: Attention heads.
        head_features: Features of a head.
    """

    def __init__(self, num_features: int, num_heads: int, head_features: int) -> None:
        super().__init__()
        self.linear = Linear(num_features, num_heads * head_features)
        self.slope = without_decay(nn.Parameter(torch.full((num_heads, 1), 0.25)))
        self.norm_weight = without_decay(nn.Parameter(torch.ones(num_heads, head_features)))
        self.norm_bias = without_decay(nn.Parameter(torch.zeros(num_heads, head_features)))

    def forward(self, grid: Tensor) -> Tensor:
        """Map ``[B, A, S, N]`` to ``[B, heads, S, A * features]``."""
        heads = self.linear(grid).unflatten(-1, self.norm_weight.shape)
        heads = torch.where(heads > 0, heads, self.slope * heads)
        heads = F.layer_norm(heads, heads.shape[-1:]) * self.norm_weight + self.norm_bias
        return heads.permute(0, 3, 2, 1, 4).flatten(3)


def _depthwise(num_features: int, kernel_size: int, *, stride: int = 1, bias: bool = True) -> StepConv:
    padding = kernel_size // 2
    return StepConv(num_features, num_features, kernel_size, stride, padding, groups=num_features, bias=bias)


def _uniform(*shape: int, fan_in: int) -> nn.Parameter:
    """Weights as ``nn.Linear`` draws them."""
    return nn.Parameter(torch.empty(shape).uniform_(-(fan_in**-0.5), fan_in**-0.5))
