"""What a separation leads to, whichever way it went: tracks that can be read, and who speaks when.

Shapes: S tracks, K channels, T samples.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

from polsess.audio import Samples
from polsess.diarization import SpeakerTimeline
from polsess.inference.network import SpeakerCount
from polsess.inference.outputs import source_names


class Rendering(ABC):
    """The tracks of one recording, at its rate and as long as it."""

    num_tracks: int
    """S."""
    count: SpeakerCount | None = None
    """What the network counted; None from one that does not count, or of a gated separation."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the tracks, by which the timeline calls their speakers."""
        return source_names(self.num_tracks)

    @abstractmethod
    def blocks(self) -> Iterator[Samples]:
        """The tracks from the start, ``[S, K, n]`` per block; any number of times."""

    @abstractmethod
    def timeline(self) -> SpeakerTimeline | None:
        """Who speaks when; None for a network with one output."""
