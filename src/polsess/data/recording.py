"""One recorded mixture: its files and what is known of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

Form = tuple[int, int]
"""Samples and rate in Hz of a recording."""


@dataclass(frozen=True)
class Recording:
    """One mixture and the files of what it consists of."""

    identifier: str
    """Unique within the split."""
    mixture: Path
    sources: tuple[Path, ...]
    """The speakers, in the order of the references."""
    metadata: dict[str, str | float] = field(default_factory=dict)
    """Conditions to stratify by."""
    num_samples: int | None = None
    """What a list says of the length; None where none does."""

    @property
    def speakers(self) -> tuple[str, ...]:
        """Who speaks, as far as it is known; else as many empty names."""
        names = str(self.metadata.get("speakers", "")).split("-")
        return tuple(names) if len(names) == len(self.sources) else ("",) * len(self.sources)
