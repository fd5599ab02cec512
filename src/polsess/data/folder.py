"""Mixtures in a plain layout: a folder per item with ``mix``, ``s1``, ``s2`` … as sound files.

Shapes: S speakers, T samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import torch

from polsess.audio import AUDIO_SUFFIXES, read_audio, resample
from polsess.data.base import Corpus, CorpusConfig, Example, Split, register_corpus
from polsess.tasks import Task


class FolderConfig(CorpusConfig):
    """Where the items are."""

    corpus_type: Literal["folder"] = "folder"
    folder: Path
    """Holds one folder per item, or ``train``, ``val`` and ``test`` that do."""


@register_corpus("folder", FolderConfig)
class Folder(Corpus):
    """The items of a folder in the order of their names."""

    config: FolderConfig

    def __init__(self, config: FolderConfig, split: Split, task: Task, seed: int = 0) -> None:
        super().__init__(config, split, task, seed)
        root = config.folder
        if not root.is_dir():
            raise FileNotFoundError(f"data.corpus.folder: no folder at {root}.")
        parts = [part for part in Split if (root / part).is_dir()]
        if parts and split not in parts:
            raise FileNotFoundError(f"{root}: no part '{split}' in it, only {', '.join(parts)}.")
        self.root = root / split if parts else root
        self.items = list_items(self.root)
        if not self.items:
            raise ValueError(
                f"{self.root}: no items in it; expected folders that hold mix.wav, s1.wav, s2.wav (or .flac)."
            )
        self.num_speakers = _count_speakers(self.root / self.items[0])

    @property
    def num_sources(self) -> int:
        """C, as the task asks for."""
        return self.task.num_sources(self.num_speakers)

    def __len__(self) -> int:
        """Items."""
        return len(self.items)

    def inventory(self) -> Iterator[tuple[str, Path | None]]:
        """The sounds of each item."""
        for item in self.items:
            for stem in ("mix", *(f"s{number}" for number in range(1, self.num_speakers + 1))):
                path = find_sound(self.root / item, stem)
                yield f"{item} {path.name}", path

    def example(self, epoch: int, index: int) -> Example:
        """Read an item; training takes a segment at a random place."""
        folder = self.root / self.items[index]
        names = ["mix", *(f"s{number}" for number in range(1, self.num_speakers + 1))]
        signals = [self._read(find_sound(folder, name)) for name in names]
        lengths = {len(signal) for signal in signals}
        if len(lengths) > 1:
            raise ValueError(f"{folder}: mixture and sources differ in length: {sorted(lengths)} samples.")
        cut = torch.stack(signals)[:, self._segment(epoch, index, len(signals[0]))]
        return Example(cut[0], self.task.references(cut[1:]), self.items[index])

    def _read(self, path: Path) -> torch.Tensor:
        samples, rate = read_audio(path)
        if len(samples) > 1:
            raise ValueError(f"{path}: has {len(samples)} channels; expected one.")
        return resample(samples, rate, self.config.sample_rate)[0]

    def _segment(self, epoch: int, index: int, length: int) -> slice:
        if self.split is not Split.TRAIN or self.config.segment_seconds is None:
            return slice(None)
        wanted = round(self.config.segment_seconds * self.config.sample_rate)
        start = int(self.random(epoch, index).integers(max(0, length - wanted) + 1))
        return slice(start, start + wanted)


def list_items(folder: Path) -> list[str]:
    """The names of the folders in a folder, without hidden ones; ``item2`` stands before ``item10``.

    Raises:
        FileNotFoundError: If there is no such folder.
    """
    names = [path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    return sorted(names, key=lambda name: (len(name), name))


def find_sound(folder: Path, stem: str) -> Path:
    """The sound file of a name, with whatever suffix.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If there are several.
    """
    found = [path for path in folder.glob(f"{stem}.*") if path.suffix.lower() in AUDIO_SUFFIXES]
    if not found:
        raise FileNotFoundError(f"{folder}: no sound file '{stem}' in it, e.g. {stem}.wav.")
    if len(found) > 1:
        names = ", ".join(sorted(path.name for path in found))
        raise ValueError(f"{folder}: which of {names} is meant? Leave one.")
    return found[0]


def _count_speakers(folder: Path) -> int:
    count = 0
    while any(path.suffix.lower() in AUDIO_SUFFIXES for path in folder.glob(f"s{count + 1}.*")):
        count += 1
    if not count:
        raise ValueError(f"{folder}: no references in it; expected s1.wav, s2.wav (or .flac).")
    return count
