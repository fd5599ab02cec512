"""Estimates of signals: the separation loss, and the improvement of SI-SNR over the mixture.

A network that counts speakers is trained on the references that are not silent: its first estimates with the
separation loss, the presence of each speaker with binary cross-entropy beside it, as its authors do.

Shapes: B batch, C sources, T samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from polsess.data import Batch
from polsess.losses import LossConfig, SeparationLoss, active_first
from polsess.metrics.utterance import CLEAN_MIXTURE_DB
from polsess.models import SeparationModel
from polsess.schema import ConfigError
from polsess.signal_ratios import si_snr
from polsess.training.objectives.base import Objective

Score = tuple[float | None, ...]
"""SI-SNR and its improvement (None where there is nothing to improve) where any reference counts; then, of
networks that count, if the number is right."""


class SeparationObjective(Objective[SeparationModel]):
    """Negative signal ratios under the best assignment.

    Args:
        config: Which ratio, which thresholds.
        counts_speakers: Whether the network counts speakers.

    Raises:
        ConfigError: If the loss does not fit such a network.
    """

    substitute = "val_si_snr"

    def __init__(self, config: LossConfig, *, counts_speakers: bool = False) -> None:
        super().__init__()
        if counts_speakers and config.name == "mixit":
            raise ConfigError("training.loss: mixit has no references to count; choose another loss.")
        if config.presence_weight is not None and not counts_speakers:
            raise ConfigError("training.loss.presence_weight: this model counts no speakers; leave it out.")
        self.separation_loss = SeparationLoss(config)
        self.presence_weight = 1.0 if config.presence_weight is None else config.presence_weight

    def loss(self, model: SeparationModel, batch: Batch, step: int) -> Tensor:
        del step
        if model.counts_speakers:
            return self._counted_loss(model, batch)
        estimates, auxiliary = model.forward_with_auxiliary(batch.mixture)
        return self.separation_loss(estimates, batch.references, auxiliary, batch.mixture)

    def _counted_loss(self, model: SeparationModel, batch: Batch) -> Tensor:
        references, numbers = active_first(batch.references, batch.mixture)
        estimates, auxiliary, presence = model.forward_present(batch.mixture, numbers)
        with torch.autocast(presence.device.type, enabled=False):
            there = torch.arange(presence.shape[1], device=numbers.device) < numbers.unsqueeze(1)
            loss = self.presence_weight * F.binary_cross_entropy_with_logits(presence.float(), there.float())
        for number in numbers.unique().tolist():
            if number:
                rows = (numbers == number).nonzero().squeeze(1)
                share = len(rows) / len(numbers)
                found, wanted, *further = (
                    each[rows, :number] for each in (estimates, references, *auxiliary)
                )
                loss = loss + share * self.separation_loss(found, wanted, further, batch.mixture[rows])
        return loss

    def scores(self, model: SeparationModel, batch: Batch) -> list[Score]:
        """Per utterance; networks that count speakers separate as many as there are."""
        if model.counts_speakers:
            return [self._counted_score(model, batch.rows(row, row + 1)) for row in range(len(batch.lengths))]
        estimates = model(batch.mixture, batch.lengths)
        estimates = estimates.unsqueeze(1) if estimates.ndim == 2 else estimates
        return [
            self._score(*(each[row : row + 1, ..., :length] for each in signals))
            for row, length in enumerate(batch.lengths.tolist())
            for signals in [(estimates, batch.references, batch.mixture)]
        ]

    def _counted_score(self, model: SeparationModel, batch: Batch) -> Score:
        mixture, references = (each[..., : int(batch.lengths)] for each in (batch.mixture, batch.references))
        references, numbers = active_first(references, mixture)
        estimates, counts = model.separate_counted(mixture, numbers)
        assert counts is not None
        right, number = float(counts.numbers == numbers), int(numbers)
        if not number:
            return (right,)
        return (*self._score(estimates[:, :number], references[:, :number], mixture), right)

    def _score(self, estimates: Tensor, references: Tensor, mixture: Tensor) -> Score:
        """Of one utterance, ``[1, C, T]``, ``[1, C, T]`` and ``[1, T]``; nothing where no reference counts.

        No improvement where the mixture is the reference: a clean item says nothing of noise, but would
        outweigh all others by the 90 dB that it has to lose.
        """
        if not self.separation_loss.active(references).any():
            return ()
        score = self.separation_loss.score(estimates, references).item()
        ratios = si_snr(mixture, references)
        baseline = self.separation_loss.mean_over_active(ratios, references).mean().item()
        return score, score - baseline if baseline < CLEAN_MIXTURE_DB else None

    def summarise(self, scores: Sequence[Score]) -> Mapping[str, float]:
        spoken = [each for each in scores if len(each) > 1]
        columns = {
            "val_si_snr": [each[0] for each in spoken],
            "val_si_snri": [each[1] for each in spoken],
            "val_count_accuracy": [each[-1] for each in scores if len(each) in (1, 3)],
        }
        known = {name: [each for each in values if each is not None] for name, values in columns.items()}
        return {name: float(np.mean(values)) for name, values in known.items() if values}
