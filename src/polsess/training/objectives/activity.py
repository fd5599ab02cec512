"""Overlapped speech detection: cross-entropy over nobody, one and several, frame by frame.

Shapes: B batch, T samples, L frames.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from polsess.data import Batch
from polsess.metrics import Detection, count_frames
from polsess.models import ActivityDetector
from polsess.timelines import Timeline, activity, list_speakers
from polsess.training.objectives.base import Objective

_IGNORED = -100
"""Class of frames behind the end of an example."""


class ActivityObjective(Objective[ActivityDetector]):
    """How many talk in each frame, from the timelines of the examples."""

    def loss(self, model: ActivityDetector, batch: Batch, step: int) -> Tensor:
        del step
        logits = model(batch.mixture)  # [B, L, 3]
        targets = torch.full(logits.shape[:2], _IGNORED)
        for row, (timeline, length) in enumerate(zip(batch.timelines, batch.lengths.tolist(), strict=True)):
            frames = model.num_frames(length)
            targets[row, :frames] = count_voices(timeline, frames, model.hop_seconds)
        with torch.autocast(logits.device.type, enabled=False):
            return F.cross_entropy(
                logits.float().flatten(0, 1), targets.flatten().to(logits.device), ignore_index=_IGNORED
            )

    def scores(self, model: ActivityDetector, batch: Batch) -> list[tuple[Detection, Detection]]:
        """What was found, missed and invented, of speech and of overlap."""
        return [
            score_frames(model, batch.mixture[row, :length], timeline)
            for row, (timeline, length) in enumerate(
                zip(batch.timelines, batch.lengths.tolist(), strict=True)
            )
        ]

    def summarise(self, scores: Sequence[tuple[Detection, Detection]]) -> Mapping[str, float]:
        columns = {}
        for name, counts in zip(("speech", "overlap"), zip(*scores, strict=True), strict=True):
            total = sum(counts, Detection())
            columns[f"val_{name}_precision"] = total.precision
            columns[f"val_{name}_recall"] = total.recall
            columns[f"val_{name}_f1"] = total.f1
        return columns


def score_frames(
    model: ActivityDetector, mixture: Tensor, timeline: Timeline, threshold: float = 0.5
) -> tuple[Detection, Detection]:
    """What a detector finds, misses and invents, of speech and of overlap.

    Args:
        model: The detector.
        mixture: ``[T]``.
        timeline: Who talks when.
        threshold: Probability from which a frame counts as overlap; that of speech is 0.5.
    """
    probabilities = model(mixture[None])[0].float().softmax(-1).cpu()
    voices = count_voices(timeline, len(probabilities), model.hop_seconds)
    return (
        count_frames(probabilities[:, 0] < 0.5, voices > 0),
        count_frames(probabilities[:, 2] > threshold, voices > 1),
    )


def count_voices(timeline: Timeline, num_frames: int, hop_seconds: float) -> Tensor:
    """How many talk in each frame, ``[L]``: 0, 1, or 2 for several."""
    speakers = list_speakers(timeline)
    if not speakers:
        return torch.zeros(num_frames, dtype=torch.long)
    talking = activity(timeline, speakers, num_frames, hop_seconds).sum(0)
    return torch.from_numpy(talking.clip(0, 2).astype(np.int64))
