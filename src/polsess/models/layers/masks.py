"""Masks of every source: activations of logits, and the last stage of dual-path models.

Luo and Mesgarani (2019), "Conv-TasNet", section II-B, https://arxiv.org/abs/1809.07454: a mask per source on
the features of the mixture. Luo, Chen, Yoshioka (2020), "Dual-path RNN", section 2.1,
https://arxiv.org/abs/1910.06379.

Shapes: B batch, C sources, L frames, N filters, H channels, E channels per source, K chunk length, S chunks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from polsess.models.layers.blocks import runs_in_blocks
from polsess.models.layers.dual_path import Chunking
from polsess.models.layers.prelu import PReLU, prelu
from polsess.models.layers.products import Linear, linear

MaskActivation = Literal[
    "linear", "relu", "leaky_relu", "prelu", "gelu", "silu", "sigmoid", "tanh", "softmax", "filter_softmax",
    "frame_softmax", "ones",
]  # fmt: skip
"""``softmax`` runs over the sources, so that masks sum to one; a single source is weighed against a rest of
logit zero, which is the sigmoid. The slope of ``prelu`` is trained. The last three exist for weights of
toolkits whose softmax runs over the filters, over the frames, or over a single source (ones whatever
the input): train with others.
"""

_ELEMENTWISE: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "gelu": F.gelu,
    "silu": F.silu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "ones": torch.ones_like,
}
_IN_PLACE: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu_,
    "sigmoid": torch.sigmoid_,
    "tanh": torch.tanh_,
}


class MaskNonlinearity(nn.Module):
    """The activation of masks as a layer, for those with a trained slope.

    Args:
        activation: Its name.
    """

    def __init__(self, activation: MaskActivation) -> None:
        super().__init__()
        self.activation: MaskActivation = activation
        self.weight = nn.Parameter(torch.full((1,), 0.25)) if activation == "prelu" else None

    def forward(self, logits: Tensor) -> Tensor:
        """Map ``[B, C, N, L]`` to ``[B, C, N, L]``."""
        if self.weight is not None:
            return prelu(logits, self.weight)
        return activate_masks(logits, self.activation)


def activate_masks(logits: Tensor, activation: MaskActivation) -> Tensor:
    """Masks of all sources.

    Args:
        logits: ``[B, C, N, L]``; inference may write the masks into their memory.
        activation: Its name; ``prelu``, which has a parameter, is a ``MaskNonlinearity`` only.

    Returns:
        ``[B, C, N, L]``.
    """
    if activation == "linear":
        return logits
    if activation == "softmax":
        return logits.softmax(dim=1) if logits.shape[1] > 1 else logits.sigmoid()
    if activation == "filter_softmax":
        return logits.softmax(dim=2)
    if activation == "frame_softmax":
        return logits.softmax(dim=3)
    functions = {**_ELEMENTWISE, **_IN_PLACE} if runs_in_blocks() else _ELEMENTWISE
    return functions[activation](logits)


class ChunkMasks(nn.Module):
    """A map to all sources, the overlap-add, a gate, and the masks' activation.

    Args:
        num_channels: H.
        source_channels: E.
        num_sources: C.
        num_filters: N; a linear map makes them of the gated channels. None when these are the masks already.
        activation: Activation of the masks.
        average: Whether overlapping chunks are averaged (divided by K / hop) or summed.
    """

    def __init__(
        self,
        num_channels: int,
        source_channels: int,
        num_sources: int,
        num_filters: int | None,
        activation: MaskActivation,
        *,
        average: bool = False,
    ) -> None:
        super().__init__()
        self.nonlinearity = MaskNonlinearity(activation)
        self.average = average
        self.activation = PReLU()
        self.to_sources = Linear(num_channels, num_sources * source_channels)
        self.gated_output = Linear(source_channels, 2 * source_channels)
        self.to_masks = (
            Linear(source_channels, num_filters, bias=False) if num_filters is not None else nn.Identity()
        )

    def forward(self, chunks: Tensor, chunking: Chunking) -> Tensor:
        """Estimate masks.

        Args:
            chunks: ``[B, S, K, H]``.
            chunking: How the sequence was cut.

        Returns:
            ``[B, C, N, L]``.
        """
        # The map commutes with the overlap-add, behind which there are half as many frames; its bias counts
        # as often as a frame has chunks.
        frames = chunking.overlap_add(self.activation(chunks))  # [B, L, H]
        overlaps = chunking.count_overlaps(chunks)  # [1, L, 1]
        sources = linear(frames, self.to_sources.weight) + overlaps * self.to_sources.bias
        if self.average:
            sources = sources * (chunking.hop_size / chunking.chunk_size)
        sources = sources.unflatten(-1, (-1, self.gated_output.in_features))  # [B, L, C, E]
        output, gate = self.gated_output(sources).chunk(2, dim=-1)
        logits = self.to_masks(output.tanh() * gate.sigmoid())  # [B, L, C, N]
        return self.nonlinearity(logits.permute(0, 2, 3, 1))
