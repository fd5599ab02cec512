"""The interface of every model: waveforms of a mixture in, waveforms of its sources out.

Shapes: B batch, C sources, T samples.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import torch
from pydantic import Field, ValidationInfo, field_validator
from torch import Tensor, nn
from torch.nn import functional as F

from polsess.schema import Schema, parse

MAX_SIZE = 1 << 16
MAX_SAMPLE_RATE = 768_000


class ModelConfig(Schema):
    """Fields of every model's configuration; each model adds its own in its own file."""

    model_type: str
    """The name under which the model is registered."""
    num_sources: int = Field(default=2, ge=1)
    """C, the number of estimates. The task decides it in a training configuration."""
    sample_rate: int = Field(default=8000, ge=1, le=MAX_SAMPLE_RATE)
    """The rate in Hz of the audio that the model was made for."""

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


class SeparationModel(nn.Module, ABC):
    """A network that estimates the sources in a single-channel mixture.

    A model writes one method, ``estimate_sources``; this class checks shapes, pads what is too short and
    restores the length, the same way for every model.
    """

    config_class: ClassVar[type[ModelConfig]]
    """The configuration of this architecture; set by ``register_model``."""
    model_type: ClassVar[str]
    """The registered name; set by ``register_model``."""
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Named configurations: published sizes, and ``tiny`` for tests. Values override the defaults."""
    amp_dtype: ClassVar[torch.dtype | None] = torch.bfloat16
    """The reduced precision that this architecture trains well in; None for float32 only. It is bfloat16
    rather than float16 by default: its range is float32's, so nothing overflows and no scaling is needed."""
    supports_compile: ClassVar[bool] = True
    """Whether ``torch.compile`` handles the architecture."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config

    @classmethod
    def from_config(cls, config: ModelConfig | Mapping[str, Any]) -> Self:
        """Build the model with fresh weights from its configuration or from plain data."""
        if isinstance(config, ModelConfig):
            return cls(config)
        return cls(parse(cls.config_class, {"model_type": cls.model_type, **config}, "model"))

    @property
    def output_sources(self) -> int:
        """C, the number of estimates."""
        return self.config.num_sources

    @property
    def sample_rate(self) -> int:
        """The rate in Hz of the audio that the model was made for."""
        return self.config.sample_rate

    @property
    @abstractmethod
    def hop_length(self) -> int:
        """Samples between frames: the most by which an estimate may differ in length before the fit."""

    @property
    def minimum_samples(self) -> int:
        """The shortest mixture that ``estimate_sources`` takes; shorter ones are zero-padded."""
        return 1

    @property
    def causal(self) -> bool:
        """Whether the present estimate never depends on samples beyond ``look_ahead_samples``."""
        return False

    @property
    def look_ahead_samples(self) -> int | None:
        """How far into the future an estimate looks, in samples; None for the whole utterance."""
        return None

    @abstractmethod
    def estimate_sources(self, mixture: Tensor) -> Tensor:
        """Separate waveforms; the one method that an architecture writes.

        Args:
            mixture: ``[B, T]`` with T at least ``minimum_samples``.

        Returns:
            ``[B, C, T']`` with T' within one ``hop_length`` of T.
        """

    def estimate_with_auxiliary(self, mixture: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Estimates and further estimates that only training looks at (per stage, per layer).

        Args:
            mixture: ``[B, T]``.

        Returns:
            Estimates ``[B, C, T']`` and a list of auxiliary estimates of the same meaning, ``[B, C, T'']``.
        """
        return self.estimate_sources(mixture), []

    def forward(self, mixture: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Separate a batch of mixtures.

        Args:
            mixture: Waveforms, ``[B, T]`` or ``[B, 1, T]``.
            lengths: Samples of each item before padding, ``[B]``. Each item is then estimated as if it were
                alone and unpadded, and zero after its end. None when all are T long.

        Returns:
            Estimates as long as the mixture: ``[B, T]`` when ``output_sources == 1``, else ``[B, C, T]``.

        Raises:
            ValueError: If the shape is not one of the two, or the network broke the length contract.
        """
        mixture = _as_batch(mixture)
        if lengths is None:
            estimates = self._estimate_fitted(mixture)
        else:
            estimates = self.estimate_padded(mixture, lengths)
        return estimates.squeeze(1) if self.output_sources == 1 else estimates

    def forward_with_auxiliary(self, mixture: Tensor) -> tuple[Tensor, list[Tensor]]:
        """As ``forward``, always ``[B, C, T]``, with the auxiliary estimates that training may use."""
        mixture = _as_batch(mixture)
        estimates, auxiliary = self.estimate_with_auxiliary(self._pad_short(mixture))
        fitted = [self._fit_length(each, mixture.shape[-1]) for each in (estimates, *auxiliary)]
        return fitted[0], fitted[1:]

    def estimate_padded(self, mixture: Tensor, lengths: Tensor) -> Tensor:
        """Separate padded items as if each were alone; an architecture may do so in one pass.

        Args:
            mixture: ``[B, T]``, zero-padded.
            lengths: Samples of each item, ``[B]``.

        Returns:
            ``[B, C, T]``, zero after each item's end.
        """
        total = mixture.shape[-1]
        estimates = mixture.new_zeros(len(mixture), self.output_sources, total)
        for length in lengths.unique().tolist():  # equal lengths share a pass
            rows = (lengths == length).nonzero().squeeze(1)
            estimates[rows, :, :length] = self._estimate_fitted(mixture[rows, :length])
        return estimates

    def _estimate_fitted(self, mixture: Tensor) -> Tensor:
        return self._fit_length(self.estimate_sources(self._pad_short(mixture)), mixture.shape[-1])

    def _pad_short(self, mixture: Tensor) -> Tensor:
        missing = self.minimum_samples - mixture.shape[-1]
        return F.pad(mixture, (0, missing)) if missing > 0 else mixture

    def _fit_length(self, estimates: Tensor, num_samples: int) -> Tensor:
        """Cut or zero-pad to the mixture's length; a gap beyond one hop is a bug in the network."""
        expected = max(num_samples, self.minimum_samples)
        if estimates.ndim != 3 or abs(estimates.shape[-1] - expected) > self.hop_length:
            raise ValueError(
                f"{type(self).__name__}.estimate_sources returned {list(estimates.shape)} for {expected} "
                f"samples; expected [B, {self.output_sources}, T'] within {self.hop_length} samples."
            )
        return F.pad(estimates, (0, num_samples - estimates.shape[-1]))


def _as_batch(mixture: Tensor) -> Tensor:
    if mixture.ndim == 3 and mixture.shape[1] == 1:
        mixture = mixture.squeeze(1)
    if mixture.ndim != 2 or mixture.shape[-1] == 0:
        raise ValueError(f"mixture must be [B, T] or [B, 1, T] with T > 0, got {list(mixture.shape)}.")
    return mixture
