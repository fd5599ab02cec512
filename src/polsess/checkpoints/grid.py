"""Tensors of the first version of TF-GridNet's blocks, which keep every attention head apart.

SPMamba took them over with their names, ``attn_conv_Q_0.0.weight`` and so on.
"""

from __future__ import annotations

import re

import torch
from torch import Tensor

from polsess.checkpoints.formats import CheckpointError
from polsess.checkpoints.names import take

_ROLES = {"Q": "query", "K": "key", "V": "value"}


def take_attention(state: dict[str, Tensor], where: str) -> dict[str, Tensor]:
    """Remove the tensors of one block's attention and return them as those of ``FrameAttention``.

    Args:
        state: Tensors of one block by their foreign names.
        where: The block, for messages.

    Raises:
        CheckpointError: If a tensor is missing or heads differ in shape.
    """
    attention: dict[str, Tensor] = {}
    for letter, role in _ROLES.items():
        heads = count_heads(state, letter)
        parts = [_take_head(state, f"attn_conv_{letter}_{head}", where) for head in range(heads)]
        if not parts or len({part["weight"].shape for part in parts}) != 1:
            raise CheckpointError(f"{where}: attn_conv_{letter}_*: expected heads of one shape.")
        joined = {name: [part[name] for part in parts] for name in parts[0]}
        for name in ("linear.weight", "linear.bias", "slope"):
            attention[f"{role}.{name}"] = torch.cat(joined[name])
        for name in ("weight", "bias"):
            attention[f"{role}.{name}"] = torch.stack(joined[name])
    output = _take_head(state, "attn_concat_proj", where)
    names = {"slope": "activation.weight", "weight": "norm.weight", "bias": "norm.bias"}
    return attention | {names.get(name, name): value for name, value in output.items()}


def count_heads(state: dict[str, Tensor], letter: str = "Q") -> int:
    """How many heads the tensors of one block hold."""
    found = (re.match(rf"attn_conv_{letter}_(\d+)\.", key) for key in state)
    return len({match[1] for match in found if match})


def _take_head(state: dict[str, Tensor], prefix: str, where: str) -> dict[str, Tensor]:
    """A 1 x 1 convolution ``[E, D, 1, 1]``, a slope and a norm ``[1, E, 1, F]``, in the layout here."""
    weight = take(state, f"{prefix}.0.weight", where)
    norm = [take(state, f"{prefix}.2.{kind}", where) for kind in ("gamma", "beta")]
    if weight.ndim != 4 or any(each.ndim != 4 for each in norm):
        raise CheckpointError(f"{where}: {prefix}: expected tensors of four dimensions.")
    return {
        "linear.weight": weight.flatten(1),
        "linear.bias": take(state, f"{prefix}.0.bias", where),
        "slope": take(state, f"{prefix}.1.weight", where),
        "weight": norm[0][0, :, 0].mT,  # [F, E]
        "bias": norm[1][0, :, 0].mT,
    }
