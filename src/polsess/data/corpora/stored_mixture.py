"""One mixture on disk with its metadata, and how published corpora arrange their folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from polsess.audio import list_sounds
from polsess.data.speaker_names import speakers_in
from polsess.tasks import Task

Form = tuple[int, int]
"""Samples and rate in Hz of a mixture."""


@dataclass(frozen=True)
class StoredMixture:
    """The files of a mixture and of its sources."""

    identifier: str
    """Unique within the split."""
    mixture: Path
    sources: tuple[Path, ...]
    """The speakers, in the order of the references."""
    metadata: dict[str, str | float] = field(default_factory=dict)
    """Conditions to stratify by."""
    num_samples: int | None = None
    """Length according to a list; None where no list gives it."""
    timeline: Path | None = None
    """RTTM file of who talks when."""
    transcript: Path | None = None
    """STM file of what is said."""

    @property
    def names(self) -> frozenset[str]:
        """What files about it may call it."""
        return frozenset({self.identifier, self.mixture.stem})

    @property
    def speakers(self) -> tuple[str, ...]:
        """Names of the speakers; empty names where they are unknown."""
        names = speakers_in(self.metadata)
        return names if len(names) == len(self.sources) else ("",) * len(self.sources)


def mixtures_of(name: str) -> frozenset[Task]:
    """Tasks that suit a mixture by its name in WHAM! and LibriMix.

    Args:
        name: ``mix_clean`` (speakers only), ``mix_both`` (and noise), ``mix_single`` (one speaker and noise).
    """
    if name.startswith("mix_single"):
        return frozenset({Task.ES})
    if name.startswith("mix_clean"):
        return frozenset({Task.SB})  # the sum of the speakers is the mixture itself
    return frozenset({Task.SB, Task.EB})


def rate_folder(root: Path, subfolders: Sequence[str], sample_rate: int) -> Path:
    """The folder ``wav8k`` or ``wav16k`` of a corpus, in its root or one of its sub-folders.

    Raises:
        FileNotFoundError: If there is none.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"data.corpus.root: no folder at {root}.")
    name = f"wav{sample_rate // 1000}k"
    for folder in (root, *(root / each for each in subfolders)):
        if (folder / name).is_dir():
            return folder / name
    raise FileNotFoundError(f"data.corpus.root: no folder {name} in {root}; is it made for another rate?")


def list_parallel(folder: Path, mixture: str, sources: Sequence[str]) -> list[StoredMixture]:
    """List mixtures whose files have the same name in one folder for mixtures and one per source.

    Raises:
        FileNotFoundError: If a folder is missing.
        ValueError: If there is no sound file in the folder of mixtures.
    """
    for name in (mixture, *sources):
        if not (folder / name).is_dir():
            raise FileNotFoundError(f"{folder}: no folder '{name}' in it.")
    paths = list_sounds(folder / mixture, deep=False).paths
    if not paths:
        raise ValueError(f"{folder / mixture}: no sound files in it.")
    return [
        StoredMixture(path.stem, path, tuple(folder / name / path.name for name in sources)) for path in paths
    ]
