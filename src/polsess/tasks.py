"""The three tasks of PolSESS and what each asks of a model.

ES enhances one speaker of the conversation, EB enhances both speakers as one signal, SB separates both
speakers. Source: the PolSESS corpus and its research report.
"""

from __future__ import annotations

from enum import StrEnum

from torch import Tensor


class Task(StrEnum):
    """What a model is asked to give back from a mixture."""

    ES = "ES"
    """Enhance one speaker: the first speaker alone."""
    EB = "EB"
    """Enhance both: the sum of all speakers, without noise and reverberation."""
    SB = "SB"
    """Separate both: one estimate per speaker."""

    def num_sources(self, num_speakers: int = 2) -> int:
        """The number of estimates that this task asks of a model."""
        return num_speakers if self is Task.SB else 1

    def references(self, speakers: Tensor) -> Tensor:
        """The signals that the estimates are compared with.

        Args:
            speakers: The clean speech of every speaker, ``[..., S, T]``.

        Returns:
            References, ``[..., C, T]`` with C = ``num_sources(S)``.
        """
        if self is Task.ES:
            return speakers[..., :1, :]
        if self is Task.EB:
            return speakers.sum(dim=-2, keepdim=True)
        return speakers
