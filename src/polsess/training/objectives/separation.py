"""Estimates of signals: the separation loss, and the improvement of SI-SNR over the mixture.

Shapes: B batch, C sources, T samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from polsess.data import Batch
from polsess.losses import LossConfig, SeparationLoss
from polsess.models import SeparationModel
from polsess.signal_ratios import si_snr
from polsess.training.objectives.base import Objective


class SeparationObjective(Objective[SeparationModel]):
    """Negative signal ratios under the best assignment.

    Args:
        config: Which ratio, which thresholds.
    """

    def __init__(self, config: LossConfig) -> None:
        super().__init__()
        self.separation_loss = SeparationLoss(config)

    def loss(self, model: SeparationModel, batch: Batch, step: int) -> Tensor:
        del step
        estimates, auxiliary = model.forward_with_auxiliary(batch.mixture)
        return self.separation_loss(estimates, batch.references, auxiliary, batch.mixture)

    def scores(self, model: SeparationModel, batch: Batch) -> list[tuple[float, float]]:
        """SI-SNR and its improvement over the mixture in dB, per utterance."""
        estimates = model(batch.mixture, batch.lengths)
        estimates = estimates.unsqueeze(1) if estimates.ndim == 2 else estimates
        found = []
        for row, length in enumerate(batch.lengths.tolist()):
            reference = batch.references[row : row + 1, :, :length]
            score = self.separation_loss.score(estimates[row : row + 1, :, :length], reference)
            of_mixture = si_snr(batch.mixture[row, :length], reference)
            baseline = self.separation_loss.mean_over_active(of_mixture, reference).mean()
            found.append((score.item(), (score.mean() - baseline).item()))
        return found

    def summarise(self, scores: Sequence[tuple[float, float]]) -> Mapping[str, float]:
        score, improvement = np.mean(scores, axis=0)
        return {"val_si_snr": float(score), "val_si_snri": float(improvement)}
