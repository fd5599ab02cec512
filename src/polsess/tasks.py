"""The tasks that networks are trained for: the signals of PolSESS, and who speaks when.

ES enhances one speaker of the conversation, EB enhances both speakers as one signal, SB separates both
speakers. Source: the PolSESS corpus and its research report. OSD and SV estimate no signals: they are
overlapped speech detection and speaker verification.
"""

from __future__ import annotations

from enum import StrEnum

from torch import Tensor


class Task(StrEnum):
    """What a network estimates from a mixture."""

    ES = "ES"
    """Enhance one speaker: the first speaker alone."""
    EB = "EB"
    """Enhance both: the sum of all speakers, without noise and reverberation."""
    SB = "SB"
    """Separate both: one estimate per speaker."""
    OSD = "OSD"
    """Overlapped speech detection: whether nobody, one or several talk in each frame."""
    SV = "SV"
    """Speaker verification: whether two pieces of speech are of one voice."""

    def num_sources(self, num_speakers: int = 2) -> int:
        """Number of references of an example for this task."""
        if self not in SEPARATION_TASKS:
            return 0
        return num_speakers if self is Task.SB else 1

    def references(self, speakers: Tensor) -> Tensor:
        """Reference signals of the estimates.

        Args:
            speakers: The clean speech of every speaker, ``[..., S, T]``.

        Returns:
            References, ``[..., C, T]`` with C = ``num_sources(S)``.
        """
        if self is Task.EB:
            return speakers.sum(dim=-2, keepdim=True)
        return speakers[..., : self.num_sources(speakers.shape[-2]), :]


SEPARATION_TASKS = frozenset({Task.ES, Task.EB, Task.SB})
"""The tasks whose estimates are signals."""
