"""Speaker verification: embeddings that tell the speakers of the training split apart, tried on others.

Shapes: B batch, T samples, K classes, D dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from polsess.data import Batch
from polsess.losses import VerificationConfig, angular_margin_loss
from polsess.metrics import find_equal_errors
from polsess.models import SpeakerEmbedder
from polsess.training.objectives.base import Objective


class SpeakerObjective(Objective[SpeakerEmbedder]):
    """Which of the training speakers it is; the weights of the classes are left behind.

    Args:
        config: Margin and length of the pieces.
        classes: The names of the classes, in a fixed order.
        dimensions: D.
    """

    def __init__(self, config: VerificationConfig, classes: Sequence[str], dimensions: int) -> None:
        super().__init__()
        self.config = config
        self.class_of = {name: number for number, name in enumerate(classes)}
        self.class_weights = nn.Parameter(torch.randn(len(classes), dimensions))
        self.class_weights.without_decay = True  # type: ignore[attr-defined]

    def loss(self, model: SpeakerEmbedder, batch: Batch, step: int) -> Tensor:
        shortest, longest = self.config.crop_seconds
        seconds = shortest + (longest - shortest) * torch.rand(()).item()
        embeddings = model(batch.mixture[:, : max(1, round(seconds * model.sample_rate))])
        labels = [self.class_of[str(each["class"])] for each in batch.metadata]
        return angular_margin_loss(
            embeddings,
            self.class_weights,
            torch.tensor(labels, device=embeddings.device),
            scale=self.config.scale,
            margin=self.config.margin * min(1.0, step / self.config.margin_steps),
        )

    def scores(self, model: SpeakerEmbedder, batch: Batch) -> list[tuple[str, list[float]]]:
        """Speaker and embedding of each piece."""
        found = []
        for row, length in enumerate(batch.lengths.tolist()):
            embedding = model(batch.mixture[row : row + 1, :length])[0]
            found.append((str(batch.metadata[row]["speakers"]), embedding.float().tolist()))
        return found

    def summarise(self, scores: Sequence[tuple[str, list[float]]]) -> Mapping[str, float]:
        """The equal error rate of all pairs of pieces, in per cent."""
        speakers = np.unique([name for name, _ in scores], return_inverse=True)[1]
        embeddings = np.array([embedding for _, embedding in scores])
        first, second = np.triu_indices(len(scores), 1)
        cosines = (embeddings @ embeddings.T)[first, second]
        return {"val_eer": 100 * find_equal_errors(cosines, speakers[first] == speakers[second]).rate}
