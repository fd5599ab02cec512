"""Mixtures in a plain layout: a folder per item with ``mix``, ``s1``, ``s2`` … as sound files."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Literal

from polsess.audio import audio_suffixes, is_hidden
from polsess.data.base import Split, register_corpus
from polsess.data.corpora.stored_corpus import StoredCorpus, StoredCorpusConfig
from polsess.data.corpora.stored_mixture import StoredMixture
from polsess.tasks import SEPARATION_TASKS, Task

TIMELINE, TRANSCRIPT = "mix.rttm", "mix.stm"
"""Files of who talks when and of what is said, beside the mixture."""


class FolderConfig(StoredCorpusConfig):
    """Configuration of a folder of items."""

    corpus_type: Literal["folder"] = "folder"
    folder: Path
    """Folder with one folder per item, or with ``train``, ``val`` and ``test`` that hold them."""


@register_corpus("folder", FolderConfig)
class Folder(StoredCorpus):
    """The items of a folder in the order of their names; files of another rate are resampled."""

    config: FolderConfig

    def __init__(self, config: FolderConfig, split: Split, task: Task, seed: int = 0) -> None:
        self._root = _folder_of(config.folder, split)
        self._items = list_items(self._root)
        if not self._items:
            raise ValueError(
                f"{self._root}: no items in it; expected folders that hold mix.wav, s1.wav … (or .flac)."
            )
        self._num_speakers = _count_speakers(self._root / self._items[0])
        super().__init__(config, split, task, seed)

    @property
    def num_speakers(self) -> int:
        """Number of references of the first item; all items must have as many."""
        return self._num_speakers

    @property
    def file_sample_rate(self) -> int | None:
        """Unknown: a folder does not record its files' original rate."""
        return None

    def fitting_tasks(self) -> frozenset[Task]:
        """All tasks: the user knows what the mixtures hold beside the references."""
        return SEPARATION_TASKS

    def list_mixtures(self) -> list[StoredMixture]:
        beyond = f"s{self._num_speakers + 1}"
        if more := [item for item in self._items if _sounds(self._root / item, beyond)]:
            warnings.warn(
                f"{self._root}: {beyond} in {len(more)} items, e.g. {more[0]}, is not used: the first item, "
                f"{self._items[0]}, has {self._num_speakers} sources.",
                stacklevel=2,
            )
        return [self._recording(self._root / item) for item in self._items]

    def _recording(self, folder: Path) -> StoredMixture:
        sources = [_sound_or_gap(folder, f"s{number}") for number in range(1, self._num_speakers + 1)]
        timeline, transcript = folder / TIMELINE, folder / TRANSCRIPT
        return StoredMixture(
            folder.name,
            _sound_or_gap(folder, "mix"),
            tuple(sources),
            timeline=timeline if timeline.is_file() else None,
            transcript=transcript if transcript.is_file() else None,
        )


def _folder_of(root: Path, split: Split) -> Path:
    """The folder that holds the items of a split."""
    if not root.is_dir():
        raise FileNotFoundError(f"data.corpus.folder: no folder at {root}.")
    parts = [part for part in Split if (root / part).is_dir()]
    if parts and split not in parts:
        raise FileNotFoundError(f"{root}: no part '{split}' in it, only {', '.join(parts)}.")
    return root / split if parts else root


def _sound_or_gap(folder: Path, stem: str) -> Path:
    """A sound file, or the path of a missing one, which counts towards ``max_bad``."""
    try:
        return find_sound(folder, stem)
    except FileNotFoundError:
        return folder / f"{stem}.wav"


def list_items(folder: Path) -> list[str]:
    """List the names of the folders in a folder, without hidden ones; ``item2`` comes before ``item10``.

    Raises:
        FileNotFoundError: If there is no such folder.
    """
    names = [path.name for path in folder.iterdir() if path.is_dir() and not is_hidden(path.name)]
    return sorted(names, key=lambda name: (len(name), name))


def find_sound(folder: Path, stem: str) -> Path:
    """Find the sound file of a name, with any suffix.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If there are several.
    """
    found = _sounds(folder, stem)
    if not found:
        raise FileNotFoundError(f"{folder}: no sound file '{stem}' in it, e.g. {stem}.wav.")
    if len(found) > 1:
        names = ", ".join(sorted(path.name for path in found))
        raise ValueError(f"{folder}: which of {names} is meant? Leave one.")
    return found[0]


def _sounds(folder: Path, stem: str) -> list[Path]:
    return [path for path in folder.glob(f"{stem}.*") if path.suffix.lower() in audio_suffixes()]


def _count_speakers(folder: Path) -> int:
    count = 0
    while _sounds(folder, f"s{count + 1}"):
        count += 1
    if not count:
        raise ValueError(f"{folder}: no references in it; expected s1.wav, s2.wav (or .flac).")
    return count
