"""Normalisations of time-domain separators: global, channel-wise, cumulative, and those of single channels.

Luo and Mesgarani (2019), "Conv-TasNet", section II-C and appendix, https://arxiv.org/abs/1809.07454; batch
normalisation: Ioffe and Szegedy (2015), https://arxiv.org/abs/1502.03167.

Shapes: B batch, C channels, T frames; or C channels, K chunk length, S chunks.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from polsess.models.layers.kernels import norm_native
from polsess.models.layers.prelu import prelu
from polsess.models.layers.stft import at_least_float32
from polsess.models.layers.stream import Stream

NormName = Literal["gLN", "cLN", "cgLN", "fgLN", "bN"]
"""Global, channel-wise (per frame), cumulative global and feature-wise global (per channel, over the frames)
layer normalisation, and batch normalisation, whose statistics inference takes from training."""

NOT_CAUSAL: frozenset[NormName | None] = frozenset({"gLN", "fgLN"})
"""Norms of all frames, that is, of those to come as well."""


def without_decay(parameter: nn.Parameter) -> nn.Parameter:
    """Mark a parameter of several dimensions that weight decay leaves alone, e.g. of a norm.

    Those of one dimension (biases, norms over channels) need no mark.
    """
    parameter.without_decay = True  # type: ignore[attr-defined]
    return parameter


class LayerNormalization(nn.Module):
    """Base of all but batch normalisation: an affine map per channel after centring and scaling.

    Args:
        num_channels: C.
        eps: Added to the variance.
    """

    def __init__(self, num_channels: int, eps: float = 1e-8) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_channels))
        self.bias = nn.Parameter(torch.zeros(num_channels))
        self.eps = eps

    def extra_repr(self) -> str:
        """The channels and the epsilon, for ``print``."""
        return f"{len(self.weight)}, eps={self.eps}"


class GlobalLayerNorm(LayerNormalization):
    """gLN: each item by the mean and variance over all of its channels and frames."""

    def forward(self, features: Tensor) -> Tensor:
        """Normalise.

        Args:
            features: ``[B, C, ...]``.

        Returns:
            The same shape.
        """
        if _channels_are_innermost(features):
            tokens = features.movedim(1, -1)  # for this order PyTorch's kernel takes E[x^2] - E[x]^2
            return _normalise_tokens(tokens, self.weight, self.bias, self.eps).movedim(-1, 1)
        return F.group_norm(features, 1, self.weight, self.bias, self.eps)


class GlobalTokenNorm(LayerNormalization):
    """gLN of features whose channels are the last dimension."""

    def forward(self, features: Tensor) -> Tensor:
        """Normalise.

        Args:
            features: ``[B, ..., C]``.

        Returns:
            The same shape.
        """
        return _normalise_tokens(features, self.weight, self.bias, self.eps)


class ChannelLayerNorm(LayerNormalization):
    """cLN: each frame by the mean and variance over its channels."""

    def forward(self, features: Tensor) -> Tensor:
        """Normalise.

        Args:
            features: ``[B, C, ...]``.

        Returns:
            The same shape; in memory the channels are the innermost dimension.
        """
        frames = features.movedim(1, -1)  # [B, ..., C]
        return F.layer_norm(frames, self.weight.shape, self.weight, self.bias, self.eps).movedim(-1, 1)


class CumulativeLayerNorm(LayerNormalization):
    """cgLN: each frame by the mean and variance over all channels of this and all earlier frames."""

    def forward(self, features: Tensor, stream: Stream | None = None) -> Tensor:
        """Normalise, cumulatively along the last dimension.

        Args:
            features: ``[B, C, T]``, or ``[B, C, K, S]`` where each chunk sees itself and earlier chunks.
            stream: Holds the sums over what came before.

        Returns:
            The same shape.
        """
        mean, variance = self._moments(features, stream)
        shape = (1, -1, *[1] * (features.ndim - 2))
        scale = (variance + self.eps).rsqrt() * self.weight.view(shape)
        return torch.addcmul(self.bias.view(shape), features - mean, scale).to(features.dtype)

    def _moments(self, features: Tensor, stream: Stream | None) -> tuple[Tensor, Tensor]:
        """Mean and variance over everything up to each step of the last dimension, ``[B, 1, ..., S]``."""
        # Summed in double precision: an hour of frames would lose the variance in single precision.
        wide = torch.float32 if features.device.type == "mps" else torch.float64
        inner = tuple(range(1, features.ndim - 1))
        single = torch.promote_types(features.dtype, torch.float32)
        step_variance, step_mean = torch.var_mean(features.to(single), inner, correction=0, keepdim=True)
        step_mean = step_mean.to(wide)
        powers = step_variance.to(wide) + step_mean.square()
        sums = torch.stack([torch.ones_like(powers), step_mean, powers]).cumsum(-1)  # [3, B, 1, ..., S]
        if stream is not None:
            sums = sums + stream.take(self, "sums", torch.zeros_like(sums[..., :1]))
            stream.keep(self, "sums", sums[..., -1:])
        steps, means, powers = sums
        mean = means / steps
        variance = (powers / steps - mean.square()).clamp_min(0.0)
        return mean.to(single), variance.to(single)


class CumulativeTokenNorm(CumulativeLayerNorm):
    """cgLN of features whose channels are the last dimension, cumulative along the first after the batch."""

    def forward(self, features: Tensor, stream: Stream | None = None) -> Tensor:
        """Normalise.

        Args:
            features: ``[B, T, C]``, or ``[B, S, K, C]`` where each chunk sees itself and earlier chunks.
            stream: Holds the sums over what came before.

        Returns:
            The same shape.
        """
        return super().forward(features.transpose(1, -1), stream).transpose(1, -1)


class FeatureGlobalLayerNorm(LayerNormalization):
    """fgLN: each channel of an item by its own mean and variance over all frames."""

    def forward(self, features: Tensor) -> Tensor:
        """Normalise.

        Args:
            features: ``[B, C, ...]``.

        Returns:
            The same shape.
        """
        # Not PyTorch's group_norm, which refuses a single frame.
        frames = tuple(range(2, features.ndim))
        variance, mean = torch.var_mean(features, frames, correction=0, keepdim=True)
        shape = (-1, *[1] * len(frames))
        scale = (variance + self.eps).rsqrt() * self.weight.view(shape)
        return torch.addcmul(self.bias.view(shape), features - mean, scale)


class BatchNorm(_BatchNorm):
    """bN: each channel by its mean and variance over the batch in training, by their averages afterwards.

    Takes and returns ``[B, C, ...]``.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of dimensions."""


class FeatureGlobalTokenNorm(FeatureGlobalLayerNorm):
    """fgLN of features whose channels are the last dimension."""

    def forward(self, features: Tensor) -> Tensor:
        """Normalise ``[B, ..., C]``."""
        return super().forward(features.movedim(-1, 1)).movedim(1, -1)


class BatchTokenNorm(BatchNorm):
    """bN of features whose channels are the last dimension."""

    def forward(self, features: Tensor) -> Tensor:
        """Normalise ``[B, ..., C]``."""
        return super().forward(features.movedim(-1, 1)).movedim(1, -1)


class RMSGroupNorm(nn.Module):
    """Root-mean-square normalisation of groups of channels in each time-frequency bin.

    Args:
        num_channels: D.
        num_groups: G.
        eps: Added to the root mean square.
    """

    def __init__(self, num_channels: int, num_groups: int, eps: float) -> None:
        super().__init__()
        self.num_groups = num_groups
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(num_channels))

    def forward(self, features: Tensor) -> Tensor:
        """``[..., D]`` -> ``[..., D]``; computes in at least float32."""
        groups = at_least_float32(features).unflatten(-1, (self.num_groups, -1))
        norm = torch.linalg.vector_norm(groups, dim=-1, keepdim=True)
        level = norm * groups.shape[-1] ** -0.5 + self.eps
        return ((groups / level).flatten(-2) * self.weight).to(features.dtype)


def _channels_are_innermost(features: Tensor) -> bool:
    last = features.ndim == 4 and features.is_contiguous(memory_format=torch.channels_last)
    return last and not features.is_contiguous()


def _normalise_tokens(features: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Global normalisation of ``[B, ..., C]``."""
    if norm_native.is_available(features):
        return norm_native.normalise(features, weight, bias, eps)
    scaled = F.group_norm(features.flatten(1).unsqueeze(1), 1, eps=eps).view(features.shape)
    if torch.is_grad_enabled():
        return torch.addcmul(bias, scaled, weight)
    return torch.addcmul(bias, scaled, weight, out=scaled)


def normalise_own(
    norm: GlobalLayerNorm,
    features: Tensor,
    slopes: Tensor | None = None,
    offsets: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Normalise features that are needed no more, in inference in their memory where that is faster.

    Args:
        norm: Which normalisation.
        features: ``[B, C, ...]``; in inference also of bfloat16.
        slopes: ``[1]`` or ``[C]`` of a PReLU that follows; None for none.
        offsets: ``[C]``, added first; None for none.
        dtype: Of the result in inference, float32 or bfloat16.
    """
    tokens = features.movedim(1, -1)
    if norm_native.is_available(tokens, torch.bfloat16):
        affine = norm.weight, norm.bias, norm.eps
        found = norm_native.normalise(tokens, *affine, slopes, offsets, dtype=dtype, inplace=True)
        return found.movedim(-1, 1)
    if offsets is not None:
        features = features + offsets.view(-1, *[1] * (features.ndim - 2))
    normalised: Tensor = norm(features)
    return normalised if slopes is None else prelu(normalised, slopes)


def normalise(norm: nn.Module, features: Tensor, stream: Stream | None) -> Tensor:
    """Apply a causal norm of this file to the next piece of a stream, or any to a whole without one."""
    normalised: Tensor = norm(features, stream) if isinstance(norm, CumulativeLayerNorm) else norm(features)
    return normalised


_NORMS: dict[NormName, type[LayerNormalization]] = {
    "gLN": GlobalLayerNorm,
    "cLN": ChannelLayerNorm,
    "cgLN": CumulativeLayerNorm,
    "fgLN": FeatureGlobalLayerNorm,
}
_TOKEN_NORMS: dict[NormName, type[LayerNormalization]] = {
    "gLN": GlobalTokenNorm,
    "cgLN": CumulativeTokenNorm,
    "fgLN": FeatureGlobalTokenNorm,
}


def create_norm(name: NormName, num_channels: int, eps: float = 1e-8) -> LayerNormalization | BatchNorm:
    """Build a normalisation of ``[B, C, ...]`` by its name in the papers.

    Args:
        name: Its name.
        num_channels: C.
        eps: Added to the variance, but for batch normalisation, which adds 1e-5.
    """
    return BatchNorm(num_channels) if name == "bN" else _NORMS[name](num_channels, eps)


TokenNormName = Literal["gLN", "cLN"]
"""Global and channel-wise (per token) layer normalisation of features whose channels are last."""


def create_token_norm(name: NormName | None, num_channels: int, eps: float = 1e-8) -> nn.Module:
    """Build a normalisation of ``[B, ..., C]`` by its name in the papers.

    Args:
        name: Its name; None for a layer that passes its input.
        num_channels: C.
        eps: Added to the variance, but for batch normalisation, which adds 1e-5.
    """
    if name is None:
        return nn.Identity()
    if name == "cLN":
        return nn.LayerNorm(num_channels, eps=eps)
    return BatchTokenNorm(num_channels) if name == "bN" else _TOKEN_NORMS[name](num_channels, eps)
