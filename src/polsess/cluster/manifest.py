"""The manifest of a separation on a cluster, in Parquet: one row per recording.

A killed command goes on from it.

While the command runs, rows are added as parts to the folder ``manifest.parts``; at its end they become
``manifest.parquet``. A later row of a recording replaces the earlier one.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from polsess.files import atomic_path
from polsess.folder_lock import locked
from polsess.object_storage import exists, fetched, folder_for, is_remote, list_objects, remove, shown

MANIFEST = "manifest.parquet"
_PARTS = "manifest.parts"
_PART_ROWS, _PART_SECONDS = 1000, 10.0

Status = Literal["pending", "done", "failed", "refused", "skipped"]


@dataclass(frozen=True)
class Entry:
    """A row."""

    input: str
    """The recording, and the part of it, as ``s3://bucket/a.wav#t=5,20``."""
    track: str
    """Name of its outputs."""
    status: Status
    """``refused`` where an output was there before, ``skipped`` where it was to stay."""
    outputs: tuple[str, ...] = ()
    """One file per speaker, in the order of their numbers."""
    timelines: tuple[str, ...] = ()
    """Files that say who speaks when."""
    rate: int | None = None
    """In Hz."""
    seconds: float | None = None
    """Of sound."""
    speakers: int | None = None
    """As many as were heard, or asked for."""
    work_seconds: float | None = None
    """That the separation took."""
    precision: str = ""
    """The type in which the network's products were computed there."""
    error: str = ""
    """Why it failed, in one line."""

    @classmethod
    def from_plain(cls, row: Mapping[str, Any]) -> Entry:
        """An entry out of what JSON and Parquet make of it."""
        return cls(**{**row, "outputs": tuple(row["outputs"]), "timelines": tuple(row["timelines"])})


class SettingsError(FileExistsError):
    """The folder holds the outputs of another separation."""


class Manifest:
    """The manifest of an output folder, of this machine or of a store.

    Args:
        folder: The folder.
        settings: What the outputs depend on.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.path, self._parts = folder / MANIFEST, folder / _PARTS
        self._settings = json.dumps(dict(settings), sort_keys=True)
        self._waiting: list[Entry] = []
        self._number, self._written = 0, time.monotonic()

    def restore(self) -> dict[str, Entry]:
        """What earlier commands have recorded, by input.

        Raises:
            SettingsError: If they had other settings.
            ValueError: If a file is damaged.
        """
        parts = self._list_parts()
        self._number = 1 + max((int(path.stem) for path in parts), default=0)
        found: dict[str, Entry] = {}
        for path in [*([self.path] if exists(self.path) else []), *parts]:
            found.update((entry.input, entry) for entry in self._read(path))
        return found

    def discard(self) -> None:
        """Forget what earlier commands have recorded; their outputs stay."""
        for path in (self.path, *self._list_parts()):
            remove(path)

    def add(self, entry: Entry) -> None:
        """Record what became of a recording; it is on disk some seconds later."""
        self._waiting.append(entry)
        full = len(self._waiting) >= _PART_ROWS
        if full or time.monotonic() - self._written > _PART_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what was added."""
        if self._waiting:
            self._write(self._parts / f"{self._number:08d}.parquet", self._waiting)
            self._number += 1
            self._waiting = []
        self._written = time.monotonic()

    def finish(self) -> dict[str, Entry]:
        """Make one file of all parts; returns its rows by input."""
        self.flush()
        entries = self.restore()
        self._write(self.path, entries.values())
        for path in self._list_parts():
            remove(path)
        return entries

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep other commands out for the time of the block; a store has no locks.

        Raises:
            FolderInUseError: If another command holds it.
        """
        if is_remote(self._parts):
            yield
            return
        with locked(self._parts, "polsess separate --ray"):
            yield
        with contextlib.suppress(OSError):  # parts are left
            self._parts.rmdir()

    def _list_parts(self) -> list[Path]:
        if is_remote(self._parts):
            return [path for path in list_objects(self._parts) if path.suffix == ".parquet"]
        return sorted(self._parts.glob("[0-9]*.parquet"))

    def _read(self, path: Path) -> list[Entry]:
        import pyarrow.parquet

        try:
            with fetched(path) as file:
                table = pyarrow.parquet.read_table(file)
            stored = (table.schema.metadata or {}).get(b"polsess", b"").decode()
            entries = [Entry.from_plain(row) for row in table.to_pylist()]
        except (pyarrow.ArrowException, ValueError, TypeError, KeyError):
            raise ValueError(
                f"{shown(path)}: not a manifest of `polsess separate --ray`; remove it to start anew."
            ) from None
        if stored != self._settings:
            self._refuse(stored)
        return entries

    def _refuse(self, stored: str) -> None:
        try:
            known = json.loads(stored)
        except ValueError:
            known = {}
        changed = [key for key, value in json.loads(self._settings).items() if known.get(key) != value]
        raise SettingsError(
            f"{shown(self.path.parent)}: holds outputs of other settings (different: {', '.join(changed)}). "
            "Choose another folder with -o, or pass --overwrite."
        )

    def _write(self, path: Path, entries: Iterable[Entry]) -> None:
        import pyarrow
        import pyarrow.parquet

        text, number, texts = pyarrow.string(), pyarrow.float64(), pyarrow.list_(pyarrow.string())
        types = {"outputs": texts, "timelines": texts, "rate": pyarrow.int64(), "speakers": pyarrow.int64()}
        types |= {"seconds": number, "work_seconds": number}
        names = list(Entry.__dataclass_fields__)
        schema = pyarrow.schema(
            [(name, types.get(name, text)) for name in names], {"polsess": self._settings}
        )
        table = pyarrow.Table.from_pylist([asdict(entry) for entry in entries], schema)
        if not is_remote(path):
            with atomic_path(path) as temporary:
                pyarrow.parquet.write_table(table, temporary)
            return
        with folder_for(path.parent) as folder:
            pyarrow.parquet.write_table(table, folder / path.name)
