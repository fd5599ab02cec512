"""The sequence models of a dual-path network: options of transformers, and models that may take their place.

Shapes: M sequences, L tokens, D features.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator
from torch import Tensor, nn

from polsess.models.layers.attention import FeedForwardActivation, TransformerStack
from polsess.models.layers.conformer import ConformerStack
from polsess.models.layers.products import Linear
from polsess.models.layers.recurrent import Recurrent, RecurrentName
from polsess.schema import Schema


class TransformerChanges(Schema):
    """Options in which some transformers of a network differ from its others; None for the same."""

    num_heads: int | None = Field(default=None, ge=1, le=16384)
    """Attention heads; a divisor of the features."""
    d_ffn: int | None = Field(default=None, ge=1, le=16384)
    """Features inside the feed-forward networks."""
    dropout: float | None = Field(default=None, ge=0.0, lt=1.0)
    """Share of activations and attention weights dropped in training."""
    activation: FeedForwardActivation | None = None
    """Activation of the feed-forward networks."""
    norm_first: bool | None = None
    """Whether a transformer layer normalises its inputs (pre-norm) or its sums (post-norm)."""
    positional_encoding: bool | None = None
    """Whether sinusoidal positions are added before each transformer; the features must then be even."""


class ConformerOptions(Schema):
    """A conformer."""

    kind: Literal["conformer"]
    num_heads: int = Field(default=8, ge=1, le=16384)
    """Attention heads; a divisor of d_model."""
    d_ffn: int = Field(default=1024, ge=1, le=16384)
    """Features inside the feed-forward networks."""
    conv_kernel_size: int = Field(default=31, ge=1, le=1023)
    """Tokens of a filter, odd."""
    conv_bias: bool = True
    """Whether the convolutions have offsets."""
    positions: Literal["relative", "absolute", "none"] = "relative"
    """Distances of tokens within the attention, sinusoids added to the input, or nothing."""
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of activations and attention weights dropped in training."""
    activation: FeedForwardActivation = "silu"
    """Activation of the feed-forward networks and the convolutions."""

    @field_validator("conv_kernel_size")
    @classmethod
    def _is_odd(cls, size: int) -> int:
        if size % 2 == 0:
            raise ValueError(f"must be odd, got {size}")
        return size


class TorchTransformerOptions(Schema):
    """PyTorch's encoder as SpeechBrain wraps it.

    It normalises sums, not inputs, has no norm at its end, and runs along the other axis: within chunks it
    attends across them, across chunks within them.
    """

    kind: Literal["torch_transformer"]
    num_heads: int = Field(default=8, ge=1, le=16384)
    """Attention heads; a divisor of d_model."""
    d_ffn: int = Field(default=2048, ge=1, le=16384)
    """Features inside the feed-forward networks."""
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of activations and attention weights dropped in training."""
    activation: Literal["relu", "gelu"] = "relu"
    """Activation of the feed-forward networks."""
    positional_encoding: bool = True
    """Whether sinusoidal positions are added before the encoder."""


class RecurrentOptions(Schema):
    """A recurrent network."""

    kind: Literal["recurrent"]
    cell: RecurrentName = "LSTM"
    """Its cell."""
    hidden_size: int = Field(default=128, ge=1, le=16384)
    """Units of each direction."""
    bidirectional: bool = True
    """Whether it also runs backwards."""
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of activations dropped between layers in training."""


SequenceModelOptions = Annotated[
    ConformerOptions | TorchTransformerOptions | RecurrentOptions, Field(discriminator="kind")
]
"""Options of one model; ``kind`` says which."""


class RecurrentStack(nn.Module):
    """A recurrent network of sequences side by side.

    Args:
        num_layers: Its layers.
        num_features: D.
        **options: Those of ``Recurrent``.
    """

    def __init__(self, num_layers: int, num_features: int, **options: Any) -> None:
        super().__init__()
        self.network = Recurrent(
            options.pop("cell"), num_features, options.pop("hidden_size"), num_layers, **options
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Map ``[M, L, D]`` to ``[M, L, D']``, D' the hidden units of all directions."""
        return self.network(tokens.transpose(0, 1)).transpose(0, 1).clone()


def create_sequence_model(
    num_layers: int, d_model: int, options: Mapping[str, Any], *, linear: bool
) -> nn.Module:
    """A model that maps ``[M, L, D]`` to the same shape, each sequence alone.

    Args:
        num_layers: Its layers.
        d_model: D.
        options: Those of one of the models above, or of a ``TransformerStack`` if they have no ``kind``.
        linear: Whether a linear map follows; without it the units of a recurrent network must be D.
    """
    values = dict(options)
    kind = values.pop("kind", None)
    if kind == "recurrent":
        network = RecurrentStack(num_layers, d_model, **values)
        width = network.network.output_size
        return nn.Sequential(network, Linear(width, d_model)) if linear else network
    if kind == "torch_transformer":
        values |= {"norm_first": False, "final_norm": False, "eps": 1e-5}
    stack = ConformerStack if kind == "conformer" else TransformerStack
    model = stack(num_layers, d_model, **values)
    return nn.Sequential(model, Linear(d_model, d_model)) if linear else model
