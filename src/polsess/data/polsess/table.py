"""The CSV of a PolSESS split: finding it, its columns, and its rows.

The generator writes 34 columns; older corpora lack the three on the scene's volume. Only the names of
the layers' files are required; the rest becomes metadata.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath

from polsess.audio import is_hidden
from polsess.data.polsess.layers import MAX_SPEAKERS, speaker_files, speaker_reverbs
from polsess.data.sources import speaker_of
from polsess.data.tables import Row, read_csv

REVERB_COLUMNS = (*speaker_reverbs(MAX_SPEAKERS), "reverbForEvent")
"""Columns of reverberation, empty in outdoor rows; only the speakers of the corpus have one."""
SOURCE_COLUMNS = {
    **{f"speech{n}OryginalPath": f"speech{n}Start" for n in range(1, MAX_SPEAKERS + 1)},
    "sceneOryginalPath": "sceneStart",
    "eventOryginalPath": "eventStart",
}
"""Columns of the source file of a layer and of its first sample, in the generator's spelling."""


_REVERB_NUMBERS = ("highCut", "diffusion", "decay", "freqDamp")


def list_columns(speakers: int) -> tuple[str, ...]:
    """Columns that the generator writes; with two speakers the original's 34, in its spelling."""
    numbers = range(1, speakers + 1)
    levels = tuple("SSR" if n == 2 else f"SSR{n}" for n in numbers[1:])
    return (
        "subset",
        *(f"speech{n}{part}" for n in numbers for part in ("OryginalPath", "Start", "End")),
        *levels,
        *("sceneOryginalPath", "sceneStart", "sceneEnd", "sceneRandomDB", "sceneOffsetDB", "sceneVolumeGain"),
        *("eventOryginalPath", "eventStart", "eventEnd"),
        *(f"speaker{n}File" for n in numbers),
        *("eventFile", "sceneFile"),
        *(f"reverbForSpeaker{n}" for n in numbers),
        *("reverbForEvent", "mixFile", "sceneClass", "eventClass", "preDelayForEvent"),
        *(f"preDelay{n}" for n in numbers),
        *_REVERB_NUMBERS,
    )


def is_reverb_number(column: str) -> bool:
    """Whether a column holds a number that outdoor rows do not have."""
    return column in _REVERB_NUMBERS or column.startswith("preDelay")


@dataclass(frozen=True)
class PolSESSRow:
    """One mixture."""

    number: int
    """Line of the CSV; the header is line 1."""
    files: dict[str, str]
    """File names by column; reverberation only indoors."""
    metadata: dict[str, str | float]
    """Scene, event, levels and speakers, as far as the CSV has them."""
    sources: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Source file and first sample by column, as far as the CSV has them."""

    @property
    def num_speakers(self) -> int:
        """Number of speakers, 1 to 3."""
        return sum(name in self.files for name in speaker_files(MAX_SPEAKERS))

    @property
    def speakers(self) -> list[str]:
        """Names of the speakers, in the order of the references."""
        return [str(self.metadata[f"speaker{n}"]) for n in range(1, self.num_speakers + 1)]

    @property
    def indoor(self) -> bool:
        """Whether the scene is indoors and so has reverberation."""
        return REVERB_COLUMNS[0] in self.files


def find_table(root: Path, split: str, given: Path | None = None) -> Path:
    """The CSV of a split.

    Args:
        root: The corpus's folder.
        split: ``train``, ``val`` or ``test``.
        given: Path with ``{split}`` in place of the split's name; relative to the root, or as it is.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If several could be it.
    """
    if given is not None:
        name = str(given).replace("{split}", split)
        for path in (root / name, Path(name)):
            if path.is_file():
                return path
        raise FileNotFoundError(f"data.corpus.table: no file at {root / name}.")
    if not root.is_dir():
        raise FileNotFoundError(f"data.corpus.root: no folder at {root}.")
    found = [*sorted((root / split).glob("*.csv")), *sorted(root.glob(f"*_{split}_*.csv"))]
    found += [path for path in sorted(root.glob(f"*{split}*.csv")) if path not in found]
    found = [path for path in found if not is_hidden(path.name)]
    standard = [path for path in found if re.fullmatch(rf"corpus_.*_{split}_final\.csv", path.name)]
    candidates = standard or found
    if not candidates:
        raise FileNotFoundError(
            f"{root}: no CSV for split '{split}' in it or in {root / split}; expected "
            f"corpus_<name>_{split}_final.csv. The generator leaves it in its working directory: move it."
        )
    if len(candidates) > 1:
        names = ", ".join(str(path.relative_to(root)) for path in candidates)
        raise ValueError(f"{root}: several CSVs could be split '{split}': {names}. Set data.corpus.table.")
    return candidates[0]


def read_table(path: Path) -> list[PolSESSRow]:
    """Read all rows of a split's CSV.

    Raises:
        ValueError: If columns or names are missing, or there is no row; with the line and the column.
    """
    table = read_csv(path, [])
    columns = list(table[0][1])
    count = _count_speakers(columns)
    layers = ("mixFile", *speaker_files(count), "sceneFile", "eventFile")
    reverbs = (*speaker_reverbs(count), "reverbForEvent")
    missing = [name for name in (*layers, *reverbs) if name not in columns]
    if missing:
        separator = " It seems to be separated by ';': save it with commas." if ";" in str(columns) else ""
        raise ValueError(f"{path}: missing column(s) {', '.join(missing)}.{separator}")
    rows = [_read_row(path, number, row, layers, reverbs) for number, row in table]
    return rows


def _count_speakers(columns: Sequence[str]) -> int:
    """Number of the last speaker with a column; two if there is none."""
    named = {n: {f"speaker{n}File", f"reverbForSpeaker{n}"} for n in range(1, MAX_SPEAKERS + 1)}
    numbers = [n for n, names in named.items() if names & set(columns)]
    return max(numbers, default=2)


def _read_row(
    path: Path, number: int, row: Row, layers: Sequence[str], reverb_columns: Sequence[str]
) -> PolSESSRow:
    files = {name: value for name in layers if (value := _cell(row, name))}
    if missing := [name for name in layers if name not in files]:
        raise ValueError(f"{path}, row {number}, column {missing[0]}: expected a file name, got nothing.")
    reverbs = {name: value for name in reverb_columns if (value := _cell(row, name))}
    if reverbs and len(reverbs) < len(reverb_columns):
        absent = next(name for name in reverb_columns if name not in reverbs)
        raise ValueError(
            f"{path}, row {number}, column {absent}: empty, though the row has other reverberation."
        )
    files |= reverbs
    for column, name in files.items():
        if name != PureWindowsPath(name).name:
            raise ValueError(f"{path}, row {number}, column {column}: expected a file name, got '{name}'.")
    sources = {
        name: (source, _cell(row, start))
        for name, start in SOURCE_COLUMNS.items()
        if (source := _cell(row, name))
    }
    num_speakers = sum(name in files for name in speaker_files(MAX_SPEAKERS))
    return PolSESSRow(number, files, _metadata(path, number, row, num_speakers, bool(reverbs)), sources)


def _metadata(path: Path, number: int, row: Row, num_speakers: int, indoor: bool) -> dict[str, str | float]:
    found: dict[str, str | float] = {"location": "indoor" if indoor else "outdoor"}
    for name, column in (("scene", "sceneClass"), ("event", "eventClass")):
        found[name] = _cell(row, column) or "unknown"
    for n in range(1, num_speakers + 1):
        found[f"speaker{n}"] = speaker_of(
            _cell(row, f"speech{n}OryginalPath") or row[f"speaker{n}File"] or ""
        )
    for name, column in (("ssr_db", "SSR"), ("decay", "decay"), ("scene_offset_db", "sceneOffsetDB")):
        if text := _cell(row, column):
            try:
                found[name] = float(text)
            except ValueError:
                raise ValueError(
                    f"{path}, row {number}, column {column}: expected a number, got '{text}'."
                ) from None
    return found


def _cell(row: Row, column: str) -> str:
    """A cell's text; MATLAB writes NaN for nothing."""
    text = row.get(column, "")
    return "" if text.lower() in {"nan", "<missing>"} else text
