"""Any other corpus, by a CSV with one row per mixture.

Columns ``mixture``, ``source_1``, ``source_2`` …, ``split``; ``identifier`` is optional, every other column
is kept as a condition to stratify by. Paths are relative to the CSV's folder or to that folder's parent.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from polsess.data.base import Split, register_corpus
from polsess.data.corpora.stored_corpus import StoredCorpus, StoredCorpusConfig
from polsess.data.corpora.stored_mixture import StoredMixture
from polsess.data.tables import Row, cell, read_csv, resolve, split_cell
from polsess.tasks import Task


class ManifestConfig(StoredCorpusConfig):
    """Configuration of a corpus by CSV."""

    corpus_type: Literal["manifest"] = "manifest"
    manifest: Path
    """The CSV."""


@register_corpus("manifest", ManifestConfig)
class Manifest(StoredCorpus):
    """The rows of one split; files of another rate are resampled."""

    config: ManifestConfig

    def __init__(self, config: ManifestConfig, split: Split, task: Task, seed: int = 0) -> None:
        self._rows = read_csv(config.manifest, ["mixture", "source_1", "split"])
        self._columns = _source_columns(list(self._rows[0][1]), config.manifest)
        super().__init__(config, split, task, seed)

    @property
    def num_speakers(self) -> int:
        """Number of columns of sources."""
        return len(self._columns)

    @property
    def file_sample_rate(self) -> int | None:
        """Unknown: the CSV does not give it."""
        return None

    def fitting_tasks(self) -> frozenset[Task]:
        """ES with one source; SB and EB with more."""
        return frozenset({Task.ES}) if len(self._columns) == 1 else frozenset({Task.SB, Task.EB})

    def list_mixtures(self) -> list[StoredMixture]:
        table = self.config.manifest
        places: dict[str, tuple[int, Split | None]] = {}
        rows: list[tuple[int, Row]] = []
        for number, row in self._rows:
            cell(table, number, row, "split")
            split = split_cell(table, number, row)
            mixture = cell(table, number, row, "mixture")
            line, first = places.setdefault(mixture, (number, split))
            if first != split:
                raise ValueError(
                    f"{table}, row {number}, mixture: {mixture} is in split {split}, and in {first} "
                    f"in row {line}."
                )
            if split is self.split:
                rows.append((number, row))
        if not rows:
            raise ValueError(f"{table}: no row has split '{self.split}'.")
        found: dict[str, StoredMixture] = {}
        for number, row in rows:
            one = self._recording(number, row)
            if one.identifier in found:
                raise ValueError(f"{table}, row {number}, identifier: '{one.identifier}' is there before.")
            found[one.identifier] = one
        return list(found.values())

    def _recording(self, number: int, row: Row) -> StoredMixture:
        table = self.config.manifest
        mixture, *sources = (
            resolve(cell(table, number, row, column), table.parent) for column in ("mixture", *self._columns)
        )
        known = {"mixture", "split", "identifier", *self._columns}
        metadata = {key: _value(text) for key, text in row.items() if key not in known and text}
        name = row.get("identifier") or f"row-{number}"
        return StoredMixture(name, mixture, tuple(sources), metadata)


def _source_columns(header: list[str], table: Path) -> list[str]:
    numbers = sorted(int(name[7:]) for name in header if name.startswith("source_") and name[7:].isdigit())
    if numbers != list(range(1, len(numbers) + 1)):
        raise ValueError(f"{table}: sources must be numbered from source_1 without a gap, found {numbers}.")
    return [f"source_{number}" for number in numbers]


def _value(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text
