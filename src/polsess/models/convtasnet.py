"""ConvTasNet: masks on a learned filterbank from a stack of dilated convolutions.

Luo and Mesgarani (2019), "Conv-TasNet: surpassing ideal time-frequency magnitude masking for speech
separation", https://arxiv.org/abs/1809.07454. One class covers the paper's network and the variants of the
toolkits: with or without the skip path and biases, zero or reflect padding, three norms, causal or not.

Shapes: B batch, C sources, T samples, N filters, L frames, D bottleneck channels (the paper's B), H hidden
channels, S skip channels.
"""

from __future__ import annotations

from typing import Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from polsess.models.layers.blocks import into_first
from polsess.models.layers.dilated import DilatedDepthwiseConv
from polsess.models.layers.filterbank_model import ChosenFilterbankConfig, StreamedMasking
from polsess.models.layers.kernels import dilated_block_native
from polsess.models.layers.kernels.dilated_block_native import DilatedBlock
from polsess.models.layers.masks import MaskActivation, MaskNonlinearity
from polsess.models.layers.norms import NOT_CAUSAL, GlobalLayerNorm, NormName, create_norm, normalise
from polsess.models.layers.prelu import PReLU
from polsess.models.layers.products import PointwiseConv1d, matmul
from polsess.models.layers.stft import without_autocast
from polsess.models.layers.stream import Stream
from polsess.models.registry import register_model


class ConvTasNetConfig(ChosenFilterbankConfig):
    """The defaults are the paper's best network, 5.05 M parameters at 8 kHz; letters are the paper's."""

    model_type: Literal["convtasnet"] = "convtasnet"
    num_filters: int = Field(default=512, ge=1, le=16384)
    bottleneck_channels: int = Field(default=128, ge=1, le=16384)
    """B, channels between blocks."""
    hidden_channels: int = Field(default=512, ge=1, le=16384)
    """H, channels within a block."""
    skip_channels: int = Field(default=128, ge=0, le=16384)
    """Sc, channels of the skip path, from which the masks are made; 0 for masks from the residual path."""
    conv_kernel_size: int = Field(default=3, ge=1, le=255)
    """P, frames of a dilated filter."""
    num_blocks: int = Field(default=8, ge=1, le=16)
    """X, blocks of a repeat, dilated by 1, 2, 4 ... frames."""
    num_repeats: int = Field(default=3, ge=1, le=64)
    """R, repeats of the stack of blocks."""
    norm: NormName = "gLN"
    """The normalisation within blocks."""
    input_norm: NormName | None = None
    """The normalisation of the encoder's output; None for the same as within blocks."""
    padding: Literal["zeros", "reflect", "delayed"] = "zeros"
    """Frames beyond the borders of a dilated filter. Delayed belongs to causal networks of SpeechBrain's
    recipes: the filters lag by half their span behind the causal ones."""
    causal: bool = False
    """Whether filters see the past only; with zero padding the norms must be causal too."""
    bias: bool = True
    """Whether convolutions (the filterbank apart) have biases."""
    mask_prelu: bool = True
    """Whether a PReLU precedes the convolution to the masks."""
    mask_activation: MaskActivation = "sigmoid"
    """Activation of the masks."""

    @property
    def first_norm(self) -> NormName:
        """The normalisation of the encoder's output."""
        return self.input_norm or self.norm

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.padding == "reflect" and self.causal:
            raise ValueError("padding 'reflect' sees the future; causal takes 'zeros' or 'delayed'")
        if self.padding == "delayed" and not self.causal:
            raise ValueError("padding 'delayed' is for causal networks; set causal to true")
        if self.padding != "zeros" and self.conv_kernel_size % 2 == 0:
            raise ValueError(f"padding '{self.padding}' needs an odd conv_kernel_size")
        if self.causal and self.padding == "zeros" and {self.norm, self.first_norm} & NOT_CAUSAL:
            raise ValueError(
                "causal with the norm gLN or fgLN sees the future; use cLN or cgLN for both norms"
            )
        return self


_SPEECHBRAIN: dict[str, Any] = {
    "num_filters": 256,
    "encoder_activation": "relu",
    "bottleneck_channels": 256,
    "skip_channels": 0,
    "num_blocks": 6,
    "num_repeats": 4,
    "input_norm": "cLN",
    "padding": "reflect",
    "bias": False,
    "mask_prelu": False,
    "mask_activation": "relu",
}
_ASTEROID: dict[str, Any] = {"mask_activation": "relu"}
_ASTEROID_16K: dict[str, Any] = {"mask_activation": "relu", "kernel_size": 32, "sample_rate": 16000}


@register_model("convtasnet", ConvTasNetConfig)
class ConvTasNet(StreamedMasking):
    """Encoder, mask network and decoder, all convolutions."""

    config: ConvTasNetConfig
    inference_dtype = torch.bfloat16
    causal_options = "causal: true with norm: cLN"
    presets = {
        "causal": {"causal": True, "norm": "cLN"},
        "tiny": {
            "num_filters": 16,
            "kernel_size": 8,
            "bottleneck_channels": 6,
            "hidden_channels": 10,
            "skip_channels": 7,
            "num_blocks": 2,
            "num_repeats": 2,
        },
        "report": {**_SPEECHBRAIN, "num_blocks": 8},
        "report-skip": {
            "num_filters": 256,
            "bottleneck_channels": 256,
            "skip_channels": 256,
            "num_repeats": 4,
            "mask_activation": "relu",
        },
        "convtasnet-wsj02mix": {**_SPEECHBRAIN, "padding": "delayed", "causal": True},
        "convtasnet-whamr-enhancement": {**_SPEECHBRAIN, "num_sources": 1},
        "ConvTasNet_WHAM_sepclean": _ASTEROID,
        "ConvTasNet_Libri2Mix_sepclean_8k": _ASTEROID,
        "ConvTasNet_Libri2Mix_sepnoisy_8k": _ASTEROID,
        "ConvTasNet_Libri2Mix_sepclean_16k": _ASTEROID_16K,
        "ConvTasNet_Libri2Mix_sepnoisy_16k": _ASTEROID_16K,
        "ConvTasNet_Libri3Mix_sepclean_8k": {**_ASTEROID, "num_sources": 3},
        "ConvTasNet_Libri3Mix_sepnoisy_8k": {**_ASTEROID, "num_sources": 3},
        "ConvTasNet_Libri3Mix_sepclean_16k": {**_ASTEROID_16K, "num_sources": 3},
        "ConvTasNet_Libri3Mix_sepnoisy_16k": {**_ASTEROID_16K, "num_sources": 3},
        "ConvTasNet_Libri1Mix_enhsingle_16k": {**_ASTEROID_16K, "num_sources": 1},
        "ConvTasNet_WHAMR_enhsingle_16k": {
            **_ASTEROID_16K,
            "num_sources": 1,
            "kernel_size": 16,
            "stride": 8,
        },
    }

    def __init__(self, config: ConvTasNetConfig) -> None:
        super().__init__(config)
        filters, width = config.num_filters, config.bottleneck_channels
        self.encoder = config.create_encoder(config.encoder_activation)
        self.input_norm = create_norm(config.first_norm, filters)
        self.bottleneck = PointwiseConv1d(filters, width, bias=config.bias)
        self.blocks = nn.ModuleList(
            ConvBlock(config, 2**block)
            for _ in range(config.num_repeats)
            for block in range(config.num_blocks)
        )
        self.mask_prelu = PReLU() if config.mask_prelu else nn.Identity()
        self.to_masks = PointwiseConv1d(
            config.skip_channels or width, config.num_sources * filters, bias=config.bias
        )
        self.nonlinearity = MaskNonlinearity(config.mask_activation)
        self.decoder = config.create_decoder()

    @property
    def minimum_samples(self) -> int:
        """One frame; with reflection, as many frames as the widest border mirrors."""
        frames = 1
        if self.config.padding == "reflect":
            frames += 2 ** (self.config.num_blocks - 1) * (self.config.conv_kernel_size - 1) // 2
        return self.config.kernel_size + (frames - 1) * self.hop_length

    @property
    def causal(self) -> bool:
        """Whether neither filters nor norms nor masks see the future."""
        norms, masks = {self.config.norm, self.config.first_norm}, self.config.mask_activation
        return self.config.causal and not norms & NOT_CAUSAL and masks != "frame_softmax"

    @property
    def look_ahead_samples(self) -> int | None:
        """The rest of the last frame that overlaps a sample."""
        return self.frame_look_ahead if self.causal else None

    def estimate_masks(self, features: Tensor, stream: Stream | None = None) -> Tensor:
        width = self.config.bottleneck_channels
        # One sum holds the residual path in its first D channels and the skip path in the rest.
        total = self.bottleneck(normalise(self.input_norm, features, stream))
        total = F.pad(total, (0, 0, 0, self.config.skip_channels))
        for block in self.blocks:
            total = into_first(torch.add, total, block(total[:, :width], stream))
        path = total[:, width:] if self.config.skip_channels else total
        masks = self.to_masks(self.mask_prelu(path)).unflatten(1, (self.output_sources, -1))
        return self.nonlinearity(masks)


class ConvBlock(nn.Module):
    """One dilated depthwise convolution between two pointwise ones.

    Args:
        config: The model's configuration.
        dilation: Frames between the taps of the filter.
    """

    def __init__(self, config: ConvTasNetConfig, dilation: int) -> None:
        super().__init__()
        width, hidden = config.bottleneck_channels, config.hidden_channels
        self.expand = PointwiseConv1d(width, hidden, bias=config.bias)
        self.expand_prelu = PReLU(inplace=True)
        self.expand_norm = create_norm(config.norm, hidden)
        left, right = _borders(config, dilation)
        self.depthwise = DilatedDepthwiseConv(
            hidden,
            config.conv_kernel_size,
            dilation=dilation,
            left=left,
            right=right,
            reflect=config.padding == "reflect",
            bias=config.bias,
        )
        self.depthwise_prelu = PReLU(inplace=True)
        self.depthwise_norm = create_norm(config.norm, hidden)
        # The residual and the skip path share one product.
        self.outputs = PointwiseConv1d(hidden, width + config.skip_channels, bias=config.bias)

    def forward(self, features: Tensor, stream: Stream | None = None) -> Tensor:
        """Compute the block's contributions to the residual and the skip path.

        Args:
            features: The residual path, ``[B, D, L]``.
            stream: Memory of the frames before these.

        Returns:
            ``[B, D + S, L]``, the residual path's part first.
        """
        if stream is None and self._is_covered(features):
            return self._run_natively(features)
        hidden = self.expand_prelu(self.expand(features))  # [B, H, L]
        hidden = normalise(self.expand_norm, hidden, stream)
        hidden = self.depthwise_prelu(self.depthwise(hidden, stream))
        return self.outputs(normalise(self.depthwise_norm, hidden, stream))

    def _is_covered(self, features: Tensor) -> bool:
        """Whether the kernel takes what lies between the products."""
        conv, norms = self.depthwise, (self.expand_norm, self.depthwise_norm)
        plain = all(isinstance(each, GlobalLayerNorm) for each in norms)
        long = features.shape[-1] > max(conv.left, conv.right) if conv.reflect else features.shape[-1] > 0
        return plain and long and dilated_block_native.is_available(features)

    def _run_natively(self, features: Tensor) -> Tensor:
        """As ``forward``. The last norm goes into the product behind it, by its weights and an offset."""
        dtype = torch.bfloat16 if torch.is_autocast_enabled("cpu") else torch.float32
        with without_autocast(features):
            weight = self.expand.weight.squeeze(-1).to(dtype).expand(len(features), -1, -1)
            expanded = matmul(weight, features.to(dtype))  # [B, H, L]
            hidden, mean, factor = dilated_block_native.run_block(expanded, self._layers())
            weight, norm = self.outputs.weight.squeeze(-1), self.depthwise_norm
            scaled = weight * norm.weight * factor.view(-1, 1, 1)  # [B, D + S, H]
            offsets = weight @ norm.bias - mean.view(-1, 1) * scaled.sum(-1)  # [B, D + S]
            if self.outputs.bias is not None:
                offsets = offsets + self.outputs.bias
            return matmul(scaled.to(dtype), hidden) + offsets.unsqueeze(-1)

    def _layers(self) -> DilatedBlock:
        conv, norm = self.depthwise, self.expand_norm
        return DilatedBlock(
            offsets=self.expand.bias,
            slope=self.expand_prelu.weight.item(),
            weight=norm.weight,
            bias=norm.bias,
            eps=norm.eps,
            taps=conv.weight,
            tap_bias=conv.bias,
            dilation=conv.dilation,
            left=conv.left,
            right=conv.right,
            reflect=conv.reflect,
            next_slope=self.depthwise_prelu.weight.item(),
            next_eps=self.depthwise_norm.eps,
        )


def _borders(config: ConvTasNetConfig, dilation: int) -> tuple[int, int]:
    """Frames that are added before and after, so that a dilated filter keeps the number of frames."""
    span = dilation * (config.conv_kernel_size - 1)
    if config.padding == "delayed":
        return span + span // 2, -(span // 2)
    return (span, 0) if config.causal else (span // 2, span - span // 2)
