"""Generating a split: items in parallel, a journal for resuming, the CSV at the end."""

from __future__ import annotations

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from polsess.audio import write_plain_pcm
from polsess.data.base import Split
from polsess.data.polsess.generation.item import Cells, Mixer
from polsess.data.polsess.generation.settings import Ingredients
from polsess.data.polsess.layers import FOLDERS
from polsess.data.polsess.table import is_reverb_number, list_columns
from polsess.data.timeline_files import timeline_path, transcript_path
from polsess.data.transcripts import write_stm
from polsess.files import write_text
from polsess.folder_lock import locked
from polsess.journal import Journal
from polsess.processes import map_parallel
from polsess.timelines import write_rttm

_JOURNAL = ".generation.jsonl"


@dataclass(frozen=True)
class Generated:
    """Result of generating a split."""

    table: Path
    """CSV of the split."""
    num_resumed: int
    """Number of items that an interrupted run had made before."""
    redrawn: dict[str, int]
    """Number of dropped draws of this run by reason."""


@dataclass(frozen=True)
class _Made:
    index: int
    cells: Cells
    redrawn: tuple[str, ...]


class _Worker:
    """State of a worker process."""

    def __init__(self, ingredients: Ingredients, folder: Path, split: Split) -> None:
        self.mixer, self.folder, self.split = Mixer(ingredients), folder, split

    def make(self, index: int) -> _Made:
        """Make and store one item, the mixture last."""
        seed = [self.mixer.config.seed, list(Split).index(self.split), index]
        item = self.mixer.make(np.random.default_rng(seed))
        mixture = self.folder / FOLDERS["mixFile"] / str(item.cells["mixFile"])
        if item.timeline is not None:
            write_text(timeline_path(mixture), write_rttm(item.timeline, mixture.stem))
        if item.transcript is not None:
            write_text(transcript_path(mixture), write_stm(item.transcript, mixture.stem))
        for column, samples in item.layers.items():
            path = self.folder / FOLDERS[column] / str(item.cells[column])
            write_plain_pcm(path, samples, self.mixer.config.sample_rate)
        return _Made(index, item.cells, item.redrawn)


_worker: _Worker | None = None


def _start(ingredients: Ingredients, folder: Path, split: Split) -> None:
    global _worker
    _worker = _Worker(ingredients, folder, split)


def _make(index: int) -> _Made:
    assert _worker is not None
    return _worker.make(index)


def generate_split(
    root: Path,
    split: Split,
    count: int,
    ingredients: Ingredients,
    *,
    num_workers: int = 1,
    on_item: Callable[[], None] = lambda: None,
) -> Generated:
    """Generate one split of a corpus, or the rest of one that was interrupted.

    Args:
        root: Folder of the corpus.
        split: Split to generate.
        count: Number of items.
        ingredients: Recordings and settings.
        num_workers: Number of processes; it does not change the result.
        on_item: Called after every item.

    Raises:
        FileExistsError: If the split is there already, finished or begun with other settings or sources.
        FolderInUseError: If another process generates the split.
        ValueError: If no item can be made of these sources.
    """
    with locked(root / split, "polsess data generate"):
        return _generate(root / split, split, count, ingredients, num_workers, on_item)


def _generate(
    folder: Path,
    split: Split,
    count: int,
    ingredients: Ingredients,
    num_workers: int,
    on_item: Callable[[], None],
) -> Generated:
    table = folder / f"corpus_{ingredients.config.name}_{split}_final.csv"
    if table.exists():
        raise FileExistsError(f"{table}: this split is there already; remove it or choose another folder.")
    Mixer(ingredients)  # an unknown class of scenes is found out before anything is written
    for column in {*FOLDERS} & {*list_columns(ingredients.config.speakers)}:
        (folder / FOLDERS[column]).mkdir(parents=True, exist_ok=True)
    journal = Journal(folder / _JOURNAL)
    cells = _read_journal(journal, _digest(ingredients, split), folder)
    num_resumed = len(cells)
    redrawn: Counter[str] = Counter()
    missing = [index for index in range(count) if index not in cells]
    made = map_parallel(
        _make,
        missing,
        num_workers,
        initializer=_start,
        arguments=(ingredients, folder, split),
        chunksize=4,
    )
    for one in made:
        cells[one.index] = one.cells
        redrawn.update(one.redrawn)
        journal.append([one.index, one.cells])
        on_item()
    rows = [cells[index] for index in range(count)]
    write_text(table, _format_table(rows, split, ingredients.config.speakers))
    journal.remove()
    return Generated(table, num_resumed, dict(redrawn))


def _digest(ingredients: Ingredients, split: Split) -> str:
    """Hash of everything that items depend on."""
    table = ingredients.table
    scenes = [(name, one.location, one.reverb, sorted(one.excludes)) for name, one in table.scenes.items()]
    kinds = [(name, sorted(labels)) for name, labels in table.events.items()]
    sources = (ingredients.speech, ingredients.scenes, ingredients.events, ingredients.rooms)
    return hashlib.sha256(repr((ingredients.config, split, sources, scenes, kinds)).encode()).hexdigest()


def _read_journal(journal: Journal, digest: str, folder: Path) -> dict[int, Cells]:
    """Items that are done; starts the journal if there is none."""
    lines = journal.restore()
    if not lines:
        if any((folder / "mix").iterdir()):
            raise FileExistsError(f"{folder}: holds mixtures of another corpus; choose another folder.")
        journal.append(digest)
        return {}
    first, *found = lines
    if first != digest:
        raise FileExistsError(
            f"{folder}: was begun with other settings or sources; use those, or remove the folder."
        )
    return {
        index: cells
        for index, cells in found
        if all((folder / FOLDERS[column] / cells[column]).is_file() for column in FOLDERS if column in cells)
    }


def _format_table(rows: list[Cells], split: Split, speakers: int) -> str:
    text = io.StringIO()
    columns = list_columns(speakers)
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for cells in rows:
        absent = {name: "NaN" if is_reverb_number(name) else "" for name in columns}
        writer.writerow(absent | {"subset": str(split)} | cells)
    return text.getvalue()
