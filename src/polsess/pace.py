"""How long something takes, in words, and when long work says how far it is."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[float], None]
"""Called with the fraction of the work that is done, 0 to 1."""
_FIRST, _LONGEST = 30.0, 1800.0
"""Seconds until the first word, and the longest time between two."""


def in_words(seconds: float) -> str:
    """A duration as one reads it, e.g. ``42 s``, ``12 min``, ``3 h 5 min``, ``4.2 days``."""
    if seconds < 100:
        return f"{seconds:.3g} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 72 else f"{hours / 24:.1f} days"


class Pace:
    """Says when it is time for a line in a log: the longer the work lasts, the seldomer."""

    def __init__(self) -> None:
        self._due = _FIRST

    def is_due(self, elapsed: float) -> bool:
        """Whether to say something now; then not before as much time again has passed, half an hour at most.

        Args:
            elapsed: Seconds since the work began.
        """
        if elapsed < self._due:
            return False
        self._due = elapsed + min(max(elapsed, _FIRST), _LONGEST)
        return True
