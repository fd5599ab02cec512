"""From logits to masks: the activations of masking separators.

Luo and Mesgarani (2019), "Conv-TasNet", section II-B, https://arxiv.org/abs/1809.07454: a mask per source on
the features of the mixture.

Shapes: B batch, C sources, N filters, L frames.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

MaskActivation = Literal[
    "linear", "relu", "leaky_relu", "gelu", "silu", "sigmoid", "tanh", "softmax", "filter_softmax",
    "frame_softmax", "ones",
]  # fmt: skip
"""``softmax`` runs over the sources, so that masks sum to one; a single source is weighed against a rest of
logit zero, which is the sigmoid. The last three exist for weights of toolkits whose softmax runs over the
filters, over the frames, or over a single source (a mask of ones, whatever the input): train with others.
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


def activate_masks(logits: Tensor, activation: MaskActivation) -> Tensor:
    """Masks of all sources.

    Args:
        logits: ``[B, C, N, L]``.
        activation: Its name.

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
    return _ELEMENTWISE[activation](logits)
