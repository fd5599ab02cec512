"""Networks made of other networks: shifts and ensembles that are averaged, and one network after another.

They are separation models themselves, so that everything that takes a model takes them. Nothing is trained:
combine what is trained. The shift trick: Defossez et al. (2019), https://arxiv.org/abs/1911.13254.

Shapes: B batch, C sources, T samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from polsess.models.base import ModelConfig, SeparationModel
from polsess.permutation import apply_permutation, best_permutation


def average_shifts(
    estimate: Callable[[Tensor], Tensor], mixture: Tensor, hop_length: int, num_shifts: int
) -> Tensor:
    """The mean of estimates whose frames begin at several places within a hop, their sources in one order.

    Args:
        estimate: ``[B, T]`` -> ``[B, C, T]`` for any T.
        mixture: ``[B, T]``.
        hop_length: Samples between frames.
        num_shifts: How many places.

    Returns:
        ``[B, C, T]``, at as many times the cost.
    """
    first = estimates = estimate(mixture)
    for number in range(1, num_shifts):
        shift = number * hop_length // num_shifts
        shifted = estimate(F.pad(mixture, (shift, 0)))[..., shift:]
        order = best_permutation(first @ shifted.mT)  # correlations [B, C, C]
        estimates = estimates + apply_permutation(shifted, order)
    return estimates if num_shifts == 1 else estimates / num_shifts


class ShiftsConfig(ModelConfig):
    """Of a network that averages shifts by itself, with a ``hop_length`` among its fields."""

    num_shifts: int = Field(default=1, ge=1)
    """Outside training: frames begin at this many places within a hop, and the estimates are averaged, at
    as many times the cost. Defossez et al. (2019), https://arxiv.org/abs/1911.13254, the shift trick."""

    @model_validator(mode="after")
    def _shifts_fit(self) -> Self:
        hop_length: int = self.hop_length  # type: ignore[attr-defined]
        if self.num_shifts > hop_length:
            raise ValueError(f"num_shifts={self.num_shifts} must be at most hop_length={hop_length}.")
        return self


class CombinedConfig(ModelConfig):
    """What a combination consists of."""

    model_type: str = "combination"
    parts: tuple[str, ...]
    """The configurations of the networks, as JSON."""
    num_shifts: int = 1


class Combination(SeparationModel):
    """Base of networks made of others.

    Args:
        model_type: What it is called.
        parts: The networks; each is used as it is.
        num_sources: C.
        num_shifts: Places of the frames within a hop, for shifts.
    """

    def __init__(
        self, model_type: str, parts: Sequence[SeparationModel], num_sources: int, num_shifts: int = 1
    ) -> None:
        super().__init__(
            CombinedConfig(
                model_type=model_type,
                num_sources=num_sources,
                sample_rate=parts[0].sample_rate,
                parts=tuple(part.config.model_dump_json() for part in parts),
                num_shifts=num_shifts,
            )
        )
        self.parts = nn.ModuleList(parts)
        dtypes = {part.inference_dtype for part in parts}
        self.inference_dtype = dtypes.pop() if len(dtypes) == 1 else None
        self.cpu_batch = min(part.cpu_batch for part in parts)

    @property
    def hop_length(self) -> int:
        """That of the first network."""
        return self._networks[0].hop_length

    @property
    def _networks(self) -> list[SeparationModel]:
        return [part for part in self.parts if isinstance(part, SeparationModel)]


class Shifted(Combination):
    """One network, averaged over places of its frames within a hop.

    Args:
        model: The network.
        num_shifts: How many places, at as many times the cost.

    Raises:
        ValueError: If there are not as many places.
    """

    def __init__(self, model: SeparationModel, num_shifts: int) -> None:
        if not 1 <= num_shifts <= model.hop_length:
            raise ValueError(
                f"shifts: expected 1 to {model.hop_length}, the hop of {model.config.model_type} in samples, "
                f"got {num_shifts}."
            )
        super().__init__("shifts", [model], model.output_sources, num_shifts)

    def estimate_sources(self, mixture: Tensor) -> Tensor:
        network = self._networks[0]
        shifts = self.config.num_shifts  # type: ignore[attr-defined]
        return average_shifts(lambda each: _sources(network, each), mixture, self.hop_length, shifts)


class Ensemble(Combination):
    """The mean of several networks, in the order of the first and as loud as it.

    Args:
        models: Networks of one rate and one number of sources.

    Raises:
        ValueError: If they differ in these.
    """

    def __init__(self, models: Sequence[SeparationModel]) -> None:
        first = models[0]
        for number, other in enumerate(models[1:], 2):
            ours, theirs = _interface(first), _interface(other)
            if ours != theirs:
                raise ValueError(
                    f"ensemble: expected {ours} of every network as of the first, got {theirs} of number "
                    f"{number}, {other.config.model_type}; leave it out."
                )
        super().__init__("ensemble", models, first.output_sources)

    def estimate_sources(self, mixture: Tensor) -> Tensor:
        first, *others = [_sources(network, mixture) for network in self._networks]
        level, total = _level(first), first
        unit = first / level
        for other in others:
            other = other / _level(other)
            total = total + level * apply_permutation(other, best_permutation(unit @ other.mT))
        return total / len(self.parts)


class Cascade(Combination):
    """A network, and another on what it gives: an enhancer before a separator, or behind it on each source.

    Args:
        first: What hears the mixture.
        then: What hears its estimates, each brought to the level that it has in the mixture.

    Raises:
        ValueError: If their rates differ, or both give several sources.
    """

    def __init__(self, first: SeparationModel, then: SeparationModel) -> None:
        if first.sample_rate != then.sample_rate:
            raise ValueError(
                f"then: expected a network of {first.sample_rate} Hz as the first, got {then.sample_rate} Hz."
            )
        if min(first.output_sources, then.output_sources) > 1:
            raise ValueError(
                f"then: one of both networks must be an enhancer, with one output; the first gives "
                f"{_interface(first)}, the other {_interface(then)}."
            )
        super().__init__("cascade", [first, then], max(first.output_sources, then.output_sources))

    def estimate_sources(self, mixture: Tensor) -> Tensor:
        first, then = self._networks
        estimates = _sources(first, mixture)  # [B, C, T]
        power = estimates.square().sum(-1, keepdim=True).clamp_min(1e-12)
        in_mixture = (estimates * mixture.unsqueeze(1)).sum(-1, keepdim=True)
        heard = (estimates * (in_mixture / power)).flatten(0, 1)
        return _sources(then, heard).reshape(len(mixture), self.output_sources, -1)


def combine(
    models: Sequence[SeparationModel], *, num_shifts: int = 1, then: SeparationModel | None = None
) -> SeparationModel:
    """One model of several: each averaged over shifts, all averaged, and another one behind them.

    Args:
        models: At least one.
        num_shifts: Places of the frames of each within a hop; 1 for none.
        then: What hears the estimates.

    Raises:
        ValueError: If they do not fit together.
    """
    shifted = [Shifted(model, num_shifts) if num_shifts != 1 else model for model in models]
    together = Ensemble(shifted) if len(shifted) > 1 else shifted[0]
    return (Cascade(together, then) if then is not None else together).eval()


def _sources(model: SeparationModel, mixture: Tensor) -> Tensor:
    """Estimates with the dimension of the sources also where there is one, ``[B, C, T]``."""
    estimates: Tensor = model(mixture)
    return estimates.unsqueeze(1) if model.output_sources == 1 else estimates


def _level(estimates: Tensor) -> Tensor:
    return torch.linalg.vector_norm(estimates, dim=-1, keepdim=True).clamp_min(1e-8)


def _interface(model: SeparationModel) -> str:
    count = model.output_sources
    return f"{count} source{'s' if count > 1 else ''} at {model.sample_rate} Hz"
