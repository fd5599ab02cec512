"""SuDoRM-RF: convolutional masking whose blocks look at several time resolutions at little cost.

Tzinis, Wang, Smaragdis (2020), "Sudo rm -rf: efficient networks for universal audio source separation",
https://arxiv.org/abs/2007.06833 (``original``), and Tzinis, Wang, Jiang, Smaragdis (2022), "Compute and
memory efficient universal sound source separation", https://arxiv.org/abs/2103.02644 (``improved``).

Shapes: B batch, C sources, T samples, N filters (C_E), L frames, H bottleneck channels (C), U block channels
(C_U). The letters in brackets are the paper's.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from polsess.models.layers.blocks import into_first, runs_in_blocks
from polsess.models.layers.filterbank import Decoder
from polsess.models.layers.filterbank_model import FilterbankModel, MadeFilterbankConfig
from polsess.models.layers.masks import MaskActivation, MaskNonlinearity
from polsess.models.layers.norms import GlobalLayerNorm, normalise_own
from polsess.models.layers.prelu import PReLU
from polsess.models.layers.products import PointwiseConv1d, PointwiseConv2d, reduces_alone
from polsess.models.layers.stft import without_autocast
from polsess.models.registry import register_model


class SuDoRMRFConfig(MadeFilterbankConfig):
    """Both generations of SuDoRM-RF; the defaults are Asteroid's improved network."""

    model_type: Literal["sudormrf"] = "sudormrf"
    variant: Literal["original", "improved"] = "improved"
    """``original`` rectifies the encoder, normalises the sum of every block and mixes all filters into masks;
    ``improved`` has residual blocks, a linear encoder and a pointwise convolution for the masks."""
    num_filters: int = Field(default=512, ge=2)
    """N (C_E in the paper)."""
    kernel_size: int = Field(default=21, ge=2)
    """Samples of a filter (k_E); frames begin every half of it, rounded down."""
    bottleneck_channels: int = Field(default=128, ge=1)
    """H, channels between blocks (C)."""
    block_channels: int = Field(default=512, ge=1)
    """U, channels inside a block (C_U)."""
    num_blocks: int = Field(default=16, ge=1)
    """B in the paper."""
    depth: int = Field(default=4, ge=1, le=12)
    """Q, time resolutions in a block, each half as fine as the one before."""
    channel_slopes: bool = True
    """Whether the PReLU behind the merged resolutions has a slope per channel (Asteroid) or one for all (the
    authors' improved network). In ``original`` it holds for every PReLU of a block."""
    mask_activation: MaskActivation = "relu"
    """Activation of the masks: softmax in the ``original`` paper, relu in the ``improved`` one."""
    decoder: Literal["shared", "joint"] = "shared"
    """One filterbank for every source (Asteroid), or one that takes the features of all (the authors)."""

    @model_validator(mode="after")
    def _check_filters(self) -> SuDoRMRFConfig:
        if self.decoder == "joint" and self.filters is not None:
            raise ValueError("the joint decoder has free filters; leave filters out")
        if self.variant == "original" and self.num_filters % 2:
            raise ValueError(f"num_filters must be even in the original variant, got {self.num_filters}.")
        return self


def _published(num_blocks: int, num_filters: int) -> dict[str, Any]:
    """The authors' improved checkpoints (Zenodo 6299852); the depth follows from the published sizes."""
    large = num_blocks == 36
    return {
        "num_filters": num_filters,
        "bottleneck_channels": 512 if large else 256,
        "num_blocks": num_blocks,
        "depth": 6 if large else 5,
        "channel_slopes": False,
        "decoder": "joint",
    }


_ASTEROID_ORIGINAL = {"variant": "original", "mask_activation": "softmax"}
_ASTEROID_16K = {"num_sources": 1, "sample_rate": 16000, "kernel_size": 41}


@register_model("sudormrf", SuDoRMRFConfig)
class SuDoRMRF(FilterbankModel):
    """Masks from a stack of blocks that go down to coarse frames and up again.

    Mixtures are zero-padded until frames divide evenly. On published weights: the authors' files are pickled
    programs and are not read, their sizes are presets; an Asteroid network with softmax and a single source
    has the constant mask one (``mask_activation: ones``).
    """

    config: SuDoRMRFConfig
    inference_dtype = torch.bfloat16
    presets = {
        "tiny": {
            "num_filters": 16,
            "kernel_size": 9,
            "bottleneck_channels": 8,
            "block_channels": 12,
            "num_blocks": 2,
            "depth": 3,
        },
        "original": _ASTEROID_ORIGINAL,
        "original-0.5x": {**_ASTEROID_ORIGINAL, "num_blocks": 8},
        "original-0.25x": {**_ASTEROID_ORIGINAL, "num_blocks": 4},
        "original-libri1mix-enhsingle-16k": {**_ASTEROID_ORIGINAL, **_ASTEROID_16K},
        "improved-libri1mix-enhsingle-16k": _ASTEROID_16K,
        "improved-u16-bases512-wsj02mix": _published(16, 512),
        "improved-u36-bases2048-wsj02mix": _published(36, 2048),
        "improved-u16-bases2048-whamr": _published(16, 2048),
        "improved-u36-bases4096-whamr": _published(36, 4096),
    }

    def __init__(self, config: SuDoRMRFConfig) -> None:
        super().__init__(config)
        filters, hidden, half = config.num_filters, config.bottleneck_channels, config.hop_length
        self.encoder = config.create_encoder(
            "relu" if config.variant == "original" else "linear", padding=half
        )
        self.norm = GlobalLayerNorm(filters)
        self.bottleneck = PointwiseConv1d(filters, hidden)
        self.blocks = nn.Sequential(*[UConvBlock(config) for _ in range(config.num_blocks)])
        self.to_masks: FilterMixing | nn.Sequential
        if config.variant == "original":
            self.to_masks = FilterMixing(hidden, filters, config.num_sources)
        else:
            self.to_masks = nn.Sequential(PReLU(), PointwiseConv1d(hidden, config.num_sources * filters))
        self.nonlinearity = MaskNonlinearity(config.mask_activation)
        self.decoder: Decoder | JointDecoder
        if config.decoder == "joint":
            self.decoder = JointDecoder(config.num_sources, filters, config.kernel_size, half)
        else:
            self.decoder = config.create_decoder(padding=half, output_padding=half - 1)

    @property
    def minimum_samples(self) -> int:
        """One sample: the borders are padded."""
        return 1

    def estimate_sources(self, mixture: Tensor) -> Tensor:
        multiple = math.lcm(self.config.hop_length, 2**self.config.depth)
        padded = F.pad(mixture, (0, -mixture.shape[-1] % multiple))
        features = self.encoder(padded)  # [B, N, L]
        hidden = self.bottleneck(self.norm(features)).unsqueeze(2)  # [B, H, 1, L]
        if hidden.device.type == "cpu" and not torch.is_grad_enabled():
            # Depthwise convolutions are 2 to 4 times faster with channels innermost, their backward slower.
            hidden = hidden.contiguous(memory_format=torch.channels_last)
        hidden = self.blocks(hidden).squeeze(2).contiguous()
        logits = self.to_masks(hidden).unflatten(1, (self.output_sources, -1))  # [B, C, N, L]
        masks = self.nonlinearity(logits)
        masked = into_first(torch.mul, masks, features.unsqueeze(1))
        return self.decoder(masked)[..., : mixture.shape[-1]]


class UConvBlock(nn.Module):
    """More channels, ever coarser frames, back up with a sum at every resolution, fewer channels, a residual.

    Works on ``[B, H, 1, L]``: with a spare dimension PyTorch has kernels for either order in memory.
    """

    def __init__(self, config: SuDoRMRFConfig) -> None:
        super().__init__()
        hidden, channels = config.bottleneck_channels, config.block_channels
        original = config.variant == "original"
        slopes = channels if config.channel_slopes else 1
        self.expand = ConvNorm(hidden, channels, PReLU(slopes if original else 1))
        self.scales = nn.ModuleList(
            DepthwiseConvNorm(channels, stride=1 if index == 0 else 2) for index in range(config.depth)
        )
        self.merged_norm = GlobalLayerNorm(channels)
        self.merged_activation = PReLU(slopes)
        self.reduce: ConvNorm | PointwiseConv2d
        if original:
            self.reduce = ConvNorm(channels, hidden, nn.Identity())
            self.output = nn.Sequential(
                GlobalLayerNorm(hidden), PReLU(hidden if config.channel_slopes else 1)
            )
        else:
            self.reduce = PointwiseConv2d(channels, hidden)
            self.output = nn.Sequential()

    def forward(self, hidden: Tensor) -> Tensor:
        """Process ``[B, H, 1, L]``; the shape stays."""
        scale = self.expand(hidden)  # [B, U, 1, L]
        scales = [scale := conv(scale) for conv in self.scales]
        merged = scales.pop()
        while scales:
            merged = _add_coarser(scales.pop(), merged)
        conv = self.reduce.conv if isinstance(self.reduce, ConvNorm) else self.reduce
        dtype = torch.get_autocast_dtype("cpu") if conv.reduces(merged) else torch.float32
        merged = normalise_own(self.merged_norm, merged, self.merged_activation.weight, dtype=dtype)
        return self.output(self.reduce(merged) + hidden)


def _add_coarser(finer: Tensor, coarser: Tensor) -> Tensor:
    """Add frames ``[B, U, 1, ceil(L / 2)]`` to two of ``[B, U, 1, L]`` each; inference overwrites these."""
    if runs_in_blocks() and finer.shape[-1] % 2 == 0:
        finer.unflatten(-1, (-1, 2)).add_(coarser.unsqueeze(-1))
        return finer
    upsampled = F.interpolate(coarser, scale_factor=(1, 2))
    return finer + upsampled[..., : finer.shape[-1]]  # an odd number of frames was rounded up


class ConvNorm(nn.Module):
    """A pointwise convolution of ``[B, ·, 1, L]``, normalised and activated, by a PReLU or not at all."""

    def __init__(self, in_channels: int, out_channels: int, activation: PReLU | nn.Identity) -> None:
        super().__init__()
        self.conv = PointwiseConv2d(in_channels, out_channels)
        self.norm = GlobalLayerNorm(out_channels)
        self.activation = activation

    def forward(self, features: Tensor) -> Tensor:
        """Process ``[B, in_channels, 1, L]`` to ``[B, out_channels, 1, L]``."""
        slopes = self.activation.weight if isinstance(self.activation, PReLU) else None
        if self.conv.reduces(features):
            return normalise_own(self.norm, self.conv.multiply(features), slopes, self.conv.bias)
        return normalise_own(self.norm, self.conv(features), slopes)


class DepthwiseConvNorm(nn.Module):
    """A convolution over five frames of every channel of ``[B, U, 1, L]`` alone, normalised."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, (1, 5), (1, stride), (0, 2), groups=channels)
        self.norm = GlobalLayerNorm(channels)

    def forward(self, features: Tensor) -> Tensor:
        """Process ``[B, U, 1, L]`` to ``[B, U, 1, ceil(L / stride)]``."""
        with without_autocast(features) if reduces_alone(features) else nullcontext():
            return normalise_own(self.norm, self.conv(features))


class FilterMixing(nn.Module):
    """The original's logits: per source one long convolution along the filters.

    A filter N + 1 long over N filters is a full product in disguise: its Toeplitz matrix is faster.
    """

    def __init__(self, hidden: int, num_filters: int, num_sources: int) -> None:
        super().__init__()
        self.expand = PointwiseConv1d(hidden, num_filters) if hidden != num_filters else nn.Identity()
        self.weight = nn.Parameter(torch.empty(num_sources, num_filters + 1))
        self.bias = nn.Parameter(torch.empty(num_sources))
        bound = (num_filters + 1) ** -0.5  # as nn.Conv2d would draw them
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map ``[B, H, L]`` to ``[B, C * N, L]``."""
        num_filters = self.weight.shape[1] - 1
        reach = num_filters // 2 - 1
        rows = F.pad(self.weight, (reach, reach)).unfold(1, num_filters, 1).flip(1)  # [C, N, N]
        offsets = self.bias.repeat_interleave(num_filters).unsqueeze(1)  # [C * N, 1]
        return rows.flatten(0, 1) @ self.expand(hidden) + offsets


class JointDecoder(nn.Module):
    """A synthesis filterbank whose estimates depend on the features of all sources."""

    def __init__(self, num_sources: int, num_filters: int, kernel_size: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose1d(
            num_sources * num_filters, num_sources, kernel_size, stride, stride, stride - 1, bias=False
        )

    def forward(self, features: Tensor) -> Tensor:
        """Map masked features ``[B, C, N, L]`` to ``[B, C, T']``."""
        return self.conv(features.flatten(1, 2))
