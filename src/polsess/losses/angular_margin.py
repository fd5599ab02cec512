"""The additive angular margin softmax: a speaker's pieces must be nearer to their class than to any other.

Deng, Guo, Xue, Zafeiriou (2019), "ArcFace", https://arxiv.org/abs/1801.07698.

Shapes: B batch, K classes, D dimensions.
"""

from __future__ import annotations

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from polsess.schema import Schema

_NEAREST = 1 - 1e-6
"""Largest cosine whose angle has a finite gradient."""


class VerificationConfig(Schema):
    """How a speaker embedder learns from the speakers of the training split."""

    scale: float = Field(default=30.0, gt=0)
    """Factor of the cosines before the softmax."""
    margin: float = Field(default=0.2, ge=0, lt=1.5)
    """Added to the angle to the own class, in radians."""
    margin_steps: int = Field(default=2000, ge=1)
    """Steps over which the margin rises from 0."""
    crop_seconds: tuple[float, float] = (1.5, 3.0)
    """Each batch is cut to a length between these, uniform; the corpus says how long its pieces are."""

    @model_validator(mode="after")
    def _check(self) -> VerificationConfig:
        shortest, longest = self.crop_seconds
        if not 0.1 <= shortest <= longest:
            raise ValueError(
                f"crop_seconds: expected two rising numbers from 0.1 up, got {shortest:g}, {longest:g}."
            )
        return self


def angular_margin_loss(
    embeddings: Tensor,
    class_weights: Tensor,
    labels: Tensor,
    *,
    scale: float,
    margin: float,
    ambiguous: Tensor | None = None,
) -> Tensor:
    """Cross-entropy of scaled cosines; that of the own class has the margin added to its angle.

    Args:
        embeddings: Of any length, ``[B, D]``.
        class_weights: Of any length, ``[K, D]``.
        labels: Numbers of the classes, ``[B]``.
        scale: Factor of the cosines.
        margin: In radians.
        ambiguous: ``[K, K]``, true where examples of the row's class may as well be of the column's, which
            is then none of the others that they are told from.

    Returns:
        A scalar, the mean over the batch, computed in float32.
    """
    with torch.autocast(embeddings.device.type, enabled=False):
        own, classes = F.normalize(embeddings.float(), dim=-1), F.normalize(class_weights.float(), dim=-1)
        cosines = (own @ classes.T).clamp(-_NEAREST, _NEAREST)  # [B, K]
        angles = torch.acos(cosines.gather(1, labels[:, None]))
        if ambiguous is not None:
            cosines = cosines.masked_fill(ambiguous[labels], -1.0)
        return F.cross_entropy(
            scale * cosines.scatter(1, labels[:, None], torch.cos(angles + margin)), labels
        )
