"""The three tasks of PolSESS: the signals that a model estimates in each.

ES enhances one speaker of the conversation, EB enhances both speakers as one signal, SB separates both
speakers. Source: the PolSESS corpus and its research report.
"""

from __future__ import annotations

from enum import StrEnum

from torch import Tensor


class Task(StrEnum):
    """Signals that a model estimates from a mixture."""

    ES = "ES"
    """Enhance one speaker: the first speaker alone."""
    EB = "EB"
    """Enhance both: the sum of all speakers, without noise and reverberation."""
    SB = "SB"
    """Separate both: one estimate per speaker."""

    def num_sources(self, num_speakers: int = 2) -> int:
        """Number of estimates of a model for this task."""
        return num_speakers if self is Task.SB else 1

    def references(self, speakers: Tensor) -> Tensor:
        """Reference signals of the estimates.

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
