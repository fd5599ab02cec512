"""CSV files of every corpus; every error names file, row and column."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath

from polsess.data.base import Split

Row = Mapping[str, str]

_MAX_BYTES = 2**30


def read_csv(path: Path, columns: Sequence[str]) -> list[tuple[int, Row]]:
    """Read rows with their line numbers; cells lose the blanks around them.

    A byte order mark, UTF-16 with such a mark, Windows line ends and empty lines are accepted.

    Args:
        path: A comma-separated file in UTF-8 with a header.
        columns: Columns that the header must hold.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not such a table, lacks a column, or holds no row.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file.")
    if path.stat().st_size > _MAX_BYTES:
        raise ValueError(f"{path}: is larger than {_MAX_BYTES} bytes, the limit for a table.")
    lines = _read_lines(path)
    header = [name.strip() for name in next(lines, (0, []))[1]]
    missing = [column for column in columns if column not in header]
    if missing:
        other = next((mark for mark in (";", "\t") if len(header) == 1 and mark in header[0]), None)
        hint = f" It is separated by {other!r}; the separator must be a comma." if other else ""
        raise ValueError(f"{path}: missing column(s) {', '.join(missing)}; found {', '.join(header)}.{hint}")
    if repeated := [name for name in dict.fromkeys(header) if name and header.count(name) > 1]:
        raise ValueError(f"{path}: column {repeated[0]} is there twice.")
    rows: list[tuple[int, Row]] = []
    for number, cells in lines:
        if len(cells) != len(header):
            raise ValueError(
                f"{path}, row {number}: expected {len(header)} cells as in the header, got {len(cells)}."
            )
        if not any(cell.strip() for cell in cells):
            raise ValueError(f"{path}, row {number}: all its cells are empty; remove the row.")
        rows.append((number, dict(zip(header, (cell.strip() for cell in cells), strict=True))))
    if not rows:
        raise ValueError(f"{path}: it has no rows below the header.")
    return rows


def _read_lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line numbers and cells of all lines that are not empty."""
    content = path.read_bytes()
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        row = content[: error.start].count(b"\n") + 1
        raise ValueError(
            f"{path}, row {row}: not a CSV file in UTF-8 (byte {content[error.start]:#04x}); save it so."
        ) from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for cells in reader:
            if cells:
                yield reader.line_num, cells
    except csv.Error as error:
        raise ValueError(f"{path}, row {reader.line_num}: not a CSV file in UTF-8 ({error}).") from None


def cell(path: Path, number: int, row: Row, column: str) -> str:
    """The text of a cell.

    Raises:
        ValueError: If it is empty.
    """
    if not row[column]:
        raise ValueError(f"{path}, row {number}, {column}: is empty.")
    return row[column]


def split_cell(path: Path, number: int, row: Row) -> Split | None:
    """The split in a row; None where the table has no such column or the cell is empty.

    Raises:
        ValueError: If it is not the name of a split.
    """
    text = row.get("split", "")
    split = Split.named(text)
    if text and split is None:
        raise ValueError(f"{path}, row {number}, split: '{text}' is not one of {', '.join(Split)}.")
    return split


def whole_number(text: str) -> int | None:
    """A length in samples, written as ``58400`` or ``58400.0``; None if it is neither."""
    digits, _, decimals = text.partition(".")
    return int(digits) if digits.isdecimal() and not decimals.strip("0") and len(digits) < 19 else None


def resolve(name: str, folder: Path) -> Path:
    """The file of a path in a list, which another machine may have written, also one with Windows.

    A relative path starts at the list's folder or at that folder's parent. Of an absolute path that does not
    exist, the longest end is taken that exists there.

    Args:
        name: The path as the list has it.
        folder: The list's folder.

    Returns:
        The file, or where it would be if none is found.
    """
    given = folder / name  # the path itself if it is absolute
    if given.exists():
        return given
    pure = PureWindowsPath(name) if "\\" in name or PureWindowsPath(name).drive else PurePosixPath(name)
    parts = [part for part in pure.parts if part != pure.anchor]
    ends = range(len(parts)) if pure.anchor else range(1)
    found = (place / Path(*parts[end:]) for end in ends for place in (folder, folder.parent))
    return next((path for path in found if path.exists()), given)
