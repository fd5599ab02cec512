"""The last stage of Asteroid's masking networks."""

from __future__ import annotations

from typing import Any

from polsess.checkpoints.arguments import Arguments
from polsess.checkpoints.names import Rule

GATED_RULES: list[Rule] = [
    (r"masker\.first_out\.0\.weight", "to_masks.activation.weight"),
    (r"masker\.first_out\.1\.(weight|bias)", r"to_masks.to_sources.\1"),
    (r"masker\.net_out\.0\.(weight|bias)", r"to_masks.output.\1"),
    (r"masker\.net_gate\.0\.(weight|bias)", r"to_masks.output_gate.\1"),
]
"""From processed chunks to gated frames; output and gate are still to be joined."""

_ELEMENTWISE = ["linear", "relu", "leaky_relu", "gelu", "sigmoid", "tanh"]


def read_mask_activation(arguments: Arguments, default: str, *, softmax: str) -> str:
    """Our word for ``mask_act``.

    Args:
        arguments: The model's arguments, from which it is taken.
        default: Where the file names none.
        softmax: What a softmax is in this architecture: each ran over another dimension.

    Raises:
        CheckpointError: If the activation is not read.
    """
    words = {name: name for name in _ELEMENTWISE} | {"swish": "silu", "softmax": softmax}
    return arguments.choose("mask_act", words, default=default)


def source_softmax(num_sources: Any) -> str:
    """What a softmax over the sources is: over a single one it is one whatever the input."""
    return "ones" if num_sources == 1 else "softmax"
