"""CSV files; every error names file, row and column."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

Row = Mapping[str, str]


def read_csv(path: Path, columns: Sequence[str]) -> list[tuple[int, Row]]:
    """Read rows with their line numbers; a byte order mark and Windows line ends are accepted.

    Args:
        path: A comma-separated file in UTF-8 with a header.
        columns: Columns that the header must hold.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not such a table, lacks a column, or holds no row.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file.")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            header = list(reader.fieldnames or [])
            rows: list[tuple[int, Row]] = [(reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: not a CSV file in UTF-8 ({error}).") from None
    missing = [column for column in columns if column not in header]
    if missing:
        hint = " The separator must be a comma." if len(header) == 1 else ""
        raise ValueError(f"{path}: missing column(s) {', '.join(missing)}; found {', '.join(header)}.{hint}")
    for number, row in rows:
        if None in row or None in row.values():
            raise ValueError(f"{path}, row {number}: expected {len(header)} cells as in the header.")
    if not rows:
        raise ValueError(f"{path}: no rows below the header.")
    return rows


def cell(path: Path, number: int, row: Row, column: str) -> str:
    """The text of a cell.

    Raises:
        ValueError: If it is empty.
    """
    text = row[column].strip()
    if not text:
        raise ValueError(f"{path}, row {number}, {column}: is empty.")
    return text


def resolve(name: str, folder: Path) -> Path:
    """A path from a list: absolute, or relative to the list's folder or to that folder's parent."""
    beside = folder / name
    return folder.parent / name if not beside.exists() and (folder.parent / name).exists() else beside
