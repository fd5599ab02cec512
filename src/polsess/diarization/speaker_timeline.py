"""Result: who speaks when in a recording, and how its tracks came about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from polsess.timelines import Timeline, list_speakers

Span = tuple[float, float]
"""Start and end of a stretch, in seconds from the beginning of the recording."""


@dataclass(frozen=True)
class SpeakerTimeline:
    """Who speaks when in a recording, and what was done to its stretches."""

    turns: Timeline
    """By start; each speaker is called as the track that holds the voice."""
    duration_seconds: float
    """Length of the recording."""
    whole: bool
    """Whether the network separated all of it; otherwise only the stretches in ``separated``."""
    overlaps: tuple[Span, ...] = ()
    """Stretches in which several talk."""
    separated: tuple[Span, ...] = ()
    """Stretches whose tracks come from the network; all other speech passed through untouched."""
    network_seconds: float = 0.0
    """Sound that went through the network, with the context of the stretches."""
    swaps_repaired: int = 0
    """Stretches whose outputs the network gave in another order than that of the tracks."""
    voices_found: int = 0
    """How many voices were told apart, whose turns may be left out; 0 where nobody counted them."""
    asked: tuple[int, int] = (1, 64)
    """The fewest and the most voices that were to be found."""
    settings: Mapping[str, str | float | int] = field(default_factory=dict)
    """Model, thresholds and other settings that the result depends on."""

    @property
    def speakers(self) -> tuple[str, ...]:
        """The speakers in the order in which they are first heard."""
        return list_speakers(self.turns)

    @property
    def saved_share(self) -> float:
        """Share of the recording that the network did not have to process, 0 to 1."""
        if not self.duration_seconds:
            return 0.0
        return max(0.0, 1.0 - self.network_seconds / self.duration_seconds)

    def note(self) -> str:
        """What a user should know of it, in one line; empty if all of the recording was separated."""
        if self.whole:
            return ""
        if not self.turns:
            return "no speech was found; all tracks are silent (--gate never separates whatever is there)."
        count, saved = self.voices_found or len(self.speakers), 100 * self.saved_share
        voices = "1 voice was" if count == 1 else f"{count} voices were"
        fewest, most = self.asked
        remark = ", as many as were allowed (--speakers allows more)" if fewest < most == count else ""
        if count == fewest == 1 < most:
            remark = " (if there are two, --speakers 2 says so)"
        if count < fewest:
            remark = f", {fewest} were asked for: the others talk too little alone, or sound alike"
        return f"{voices} found{remark}; {saved:.0f} % of the recording did not need the network."
