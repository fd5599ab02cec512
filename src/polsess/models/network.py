"""What every registered network has, whatever it estimates: a configuration, a name, a kind, a rate.

Shapes: B batch, T samples.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field, ValidationInfo, field_validator
from torch import Tensor, nn

from polsess.schema import Schema, parse
from polsess.tasks import Task

MAX_SIZE = 1 << 16
MAX_SAMPLE_RATE = 768_000


class NetworkConfig(Schema):
    """Fields of every network's configuration; each network adds its own in its own file."""

    model_type: str
    """The name under which the network is registered."""
    sample_rate: int = Field(default=8000, ge=1, le=MAX_SAMPLE_RATE)
    """The rate in Hz of the audio that the network was made for."""

    @field_validator("*")
    @classmethod
    def _bound(cls, value: Any, info: ValidationInfo) -> Any:
        """No size of a network is larger than any of the field by far; a file may claim anything."""
        sizes = value if isinstance(value, tuple) else (value,)
        if info.field_name != "sample_rate" and any(
            isinstance(each, int) and each > MAX_SIZE for each in sizes
        ):
            raise ValueError(f"at most {MAX_SIZE}, got {value!r:.40}")
        return value


class Network(nn.Module, ABC):
    """A network that is built from a configuration; what it takes and gives is a matter of its kind.

    The kinds are ``SeparationModel``, ``ActivityDetector`` and ``SpeakerEmbedder``.

    Args:
        config: Sizes.
    """

    kind: ClassVar[str]
    """What a network of this kind is called in messages."""
    usage: ClassVar[str]
    """The commands that take networks of this kind, as a sentence."""
    tasks: ClassVar[frozenset[Task]]
    """The tasks that a network of this kind can be trained for."""
    config_class: ClassVar[type[NetworkConfig]]
    """The configuration of this architecture; set by ``register_model``."""
    model_type: ClassVar[str]
    """The registered name; set by ``register_model``."""
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Named configurations: published sizes, and ``tiny`` for tests. Values override the defaults."""
    amp_dtype: ClassVar[torch.dtype | None] = torch.bfloat16
    """The reduced precision that this architecture trains well in; None for float32 only. It is bfloat16
    rather than float16 by default: its range is float32's, so nothing overflows and no scaling is needed."""
    reduced_training_on_cpu: ClassVar[Literal["slower", "faster", "faster in tiles"]] = "slower"
    """What a training step is in ``amp_dtype`` on a CPU that multiplies it natively, or in tiles."""
    inference_dtype: torch.dtype | None = None
    """The reduced precision that is faster for this architecture and changes its estimates by less than a
    hundredth (40 dB below them), which ``precision="auto"`` takes; None where there is none."""
    cpu_batch: int = 1
    """Pieces of a recording that a CPU takes in one pass: more than 1 for networks that read their weights
    from memory at every step, which several pieces then share."""
    supports_compile: ClassVar[bool] = True
    """Whether ``torch.compile`` handles the architecture."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config

    @classmethod
    def from_config(cls, config: NetworkConfig | Mapping[str, Any]) -> Self:
        """Build the network with fresh weights from its configuration or from plain data."""
        if isinstance(config, NetworkConfig):
            return cls(config)
        return cls(parse(cls.config_class, {"model_type": cls.model_type, **config}, "model"))

    @property
    def sample_rate(self) -> int:
        """The rate in Hz of the audio that the network was made for."""
        return self.config.sample_rate

    @property
    @abstractmethod
    def hub_tags(self) -> tuple[str, str]:
        """Pipeline tag and tag on the Hugging Face hub."""

    @property
    @abstractmethod
    def output_text(self) -> str:
        """What the network gives, for its card."""

    @abstractmethod
    def example_code(self, source: str) -> str:
        """Lines of Python that load and use the network, for its card.

        Args:
            source: The folder or id of its weights.
        """

    def compile_pass(self) -> None:
        """Compile what training runs."""
        self.forward = torch.compile(self.forward)

    def as_batch(self, mixture: Tensor) -> Tensor:
        """Waveforms ``[B, T]`` or ``[B, 1, T]`` as ``[B, T]``.

        Raises:
            ValueError: If the shape is neither, there is nothing in it, or its type is not that of the
                weights. Autocast takes every type of at most 32 bits to the one that it computes in.
        """
        if mixture.ndim == 3 and mixture.shape[1] == 1:
            mixture = mixture.squeeze(1)
        if mixture.ndim != 2 or 0 in mixture.shape:
            raise ValueError(
                f"mixture must be [B, T] or [B, 1, T] with B and T > 0, got {list(mixture.shape)}."
            )
        weights = next((each.dtype for each in self.parameters()), mixture.dtype)
        if mixture.dtype != weights and not (
            {mixture.dtype, weights} <= _AUTOCAST and torch.is_autocast_enabled(mixture.device.type)
        ):
            raise ValueError(
                f"mixture is {mixture.dtype}, the network's weights are {weights}: "
                f"pass samples of full scale 1 as mixture.to({weights})."
            )
        return mixture


_AUTOCAST = {torch.float32, torch.bfloat16, torch.float16}
