"""Any objective, of mixtures heard as detector and embedder hear a recording: through an enhancer.

Shapes: B batch, T samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from polsess.checkpoints import load_model
from polsess.data import Batch
from polsess.diarization.settings import CLEARED_SHARE
from polsess.models import SeparationModel
from polsess.schema import ConfigError
from polsess.training.objectives.base import NetworkT, Objective


class EnhancedObjective(Objective[NetworkT]):
    """What another objective asks for, of mixtures with less of noise and rooms.

    Args:
        objective: The loss and the scores.
        enhancer: A separation model with one output; it is not trained.
        probability: Of a batch of the training split that it is heard so; others are heard as they are.
    """

    def __init__(self, objective: Objective[NetworkT], enhancer: SeparationModel, probability: float) -> None:
        super().__init__()
        self.objective = objective
        self.enhancer = enhancer.requires_grad_(False).eval()
        self.probability = probability

    def train(self, mode: bool = True) -> EnhancedObjective[NetworkT]:
        """As of any module, but the enhancer stays as it is used."""
        super().train(mode)
        self.enhancer.eval()
        return self

    def loss(self, model: NetworkT, batch: Batch, step: int) -> Tensor:
        if torch.rand(()) < self.probability:
            batch = self._heard(batch)
        return self.objective.loss(model, batch, step)

    def scores(self, model: NetworkT, batch: Batch) -> list[Any]:
        return self.objective.scores(model, self._heard(batch))

    def summarise(self, scores: Sequence[Any]) -> Mapping[str, float]:
        return self.objective.summarise(scores)

    def _heard(self, batch: Batch) -> Batch:
        return replace(batch, mixture=clear(batch.mixture, self.enhancer, batch.lengths))


def load_enhancer(source: str, sample_rate: int, key: str = "enhancer") -> SeparationModel:
    """The enhancer that a network hears through.

    Args:
        source: As ``load_model`` reads it.
        sample_rate: Of the network, in Hz.
        key: Of the setting, for the error.

    Raises:
        CheckpointError: If it cannot be read.
        ConfigError: If it has several outputs or another rate.
    """
    enhancer = load_model(source)
    if (enhancer.sample_rate, enhancer.output_sources) != (sample_rate, 1):
        raise ConfigError(
            f"{key}: expected a model with one output at {sample_rate} Hz, got {source} with "
            f"{enhancer.output_sources} at {enhancer.sample_rate} Hz."
        )
    return enhancer


@torch.no_grad()
def clear(mixture: Tensor, enhancer: SeparationModel, lengths: Tensor | None = None) -> Tensor:
    """A mixture ``[B, T]`` with less of noise and rooms, as detector and embedder hear recordings.

    Args:
        mixture: At the rate of the enhancer.
        enhancer: A separation model with one output.
        lengths: Samples of each item, ``[B]``; None when all are T long.
    """
    with torch.autocast(mixture.device.type, enabled=False):
        estimate: Tensor = enhancer(mixture, lengths)
    return mixture - CLEARED_SHARE * (mixture - estimate)
