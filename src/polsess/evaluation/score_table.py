"""The table of an evaluation in a file: one line per utterance, as CSV or as Parquet.

Both hold the same columns: conditions, the mean of each score over the sources, the sources one by one, and
the reasons of missing scores. Parquet keeps numbers as they are and needs the package pyarrow.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from polsess.dependencies import require
from polsess.evaluation.results import Evaluation, Row
from polsess.files import atomic_path, write_text
from polsess.metrics import SCORES, Scores

TableFormat = Literal["csv", "parquet"]
TABLE = "scores"
_FIRST = ("identifier", "seconds", "content", "permutation")
_LAST = ("unassigned_db", "separation_seconds", "reasons", "failure")
_FIXED = (*_FIRST, *_LAST)

Cells = Mapping[str, Any]


def find_table(folder: Path) -> Path | None:
    """The table in the folder of an evaluation, whatever its format; None where there is none.

    Raises:
        ValueError: If there are several.
    """
    found = [path for suffix in get_args(TableFormat) if (path := folder / f"{TABLE}.{suffix}").is_file()]
    if len(found) > 1:
        raise ValueError(f"{folder}: holds {found[0].name} and {found[1].name}; remove the one that is old.")
    return found[0] if found else None


def write_table(evaluation: Evaluation, folder: Path, table_format: TableFormat = "csv") -> Path:
    """Write the table of an evaluation.

    Raises:
        ModuleNotFoundError: If the format is Parquet and pyarrow is not installed.
    """
    path = folder / f"{TABLE}.{table_format}"
    if table_format == "csv":
        write_text(path, to_csv(evaluation))
    else:
        _write_parquet(evaluation, path)
    return path


def read_table(path: Path, columns: Collection[str] = tuple(SCORES)) -> tuple[Row, ...]:
    """Read a table.

    Args:
        path: The file.
        columns: The names of scores; columns of other names are conditions.

    Raises:
        ValueError: If it is not one of scores.
        ModuleNotFoundError: If it is Parquet and pyarrow is not installed.
    """
    try:
        return tuple(_from_cells(cells, columns) for cells in _read_cells(path))
    except KeyError as error:
        raise ValueError(f"{path}: not a table of scores (no column {error}).") from None
    except (ValueError, TypeError, AttributeError, csv.Error, RecursionError) as error:
        raise ValueError(f"{path}: not a table of scores ({error}).") from None


def to_csv(evaluation: Evaluation) -> str:
    """The table as CSV, numbers with eight digits."""
    header, lines = _header(evaluation), [_to_cells(row, evaluation.columns) for row in evaluation.rows]
    stream = io.StringIO()
    writer = csv.DictWriter(stream, header, restval="")
    writer.writeheader()
    for cells in lines:
        writer.writerow({key: _text(value) for key, value in cells.items()})
    return stream.getvalue()


def _write_parquet(evaluation: Evaluation, path: Path) -> None:
    pyarrow: Any = require("pyarrow", "The table as Parquet")
    from pyarrow import parquet

    lines = [_to_cells(row, evaluation.columns) for row in evaluation.rows]
    columns = {name: _as_one_type([cells.get(name) for cells in lines]) for name in _header(evaluation)}
    with atomic_path(path) as temporary:
        parquet.write_table(pyarrow.table(columns), temporary)


def _read_cells(path: Path) -> Iterable[Cells]:
    if path.suffix == ".csv":
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            return list(csv.DictReader(file))
    require("pyarrow", f"Reading {path.name}")
    from pyarrow import parquet

    rows: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
    return [{key: "" if value is None else value for key, value in cells.items()} for cells in rows]


def _header(evaluation: Evaluation) -> list[str]:
    keys = dict.fromkeys(key for row in evaluation.rows for key in row.metadata)
    conditions = [key for key in keys if key not in {*_FIXED, *SCORES, *evaluation.columns}]
    num_sources = max((len(row.scores.permutation) for row in evaluation.rows), default=1)
    numbers = range(1, num_sources + 1) if num_sources > 1 else range(0)
    by_source = [column for column in evaluation.columns if not _is_of_recording(column)]
    single = [f"{column}_{number}" for number in numbers for column in by_source]
    return [*_FIRST, *conditions, *evaluation.columns, *single, *_LAST]


def _to_cells(row: Row, columns: tuple[str, ...]) -> dict[str, float | str | None]:
    reserved = {*_FIXED, *SCORES, *columns}
    cells: dict[str, float | str | None] = {
        key: value for key, value in row.metadata.items() if key not in reserved
    }
    for column in columns:
        cells[column] = _or_none(row.value(column))
        values = row.scores.values.get(column, ())
        if len(values) > 1:
            cells |= {f"{column}_{number}": _or_none(value) for number, value in enumerate(values, start=1)}
    return cells | {
        "identifier": row.identifier,
        "seconds": _or_none(row.seconds),
        "content": row.content,
        "permutation": " ".join(str(index + 1) for index in row.scores.permutation),
        "unassigned_db": _or_none(row.scores.unassigned_db),
        "separation_seconds": _or_none(row.separation_seconds),
        "reasons": json.dumps(dict(row.scores.reasons)) if row.scores.reasons else "",
        "failure": row.failure,
    }


def _from_cells(cells: Cells, columns: Collection[str]) -> Row:
    permutation = tuple(int(word) - 1 for word in cells["permutation"].split())
    if len(set(permutation)) < len(permutation) or any(index < 0 for index in permutation):
        raise ValueError(f"{cells['identifier']}: '{cells['permutation']}' is not a permutation")
    suffixes = [f"_{number}" for number in range(1, len(permutation) + 1)] if len(permutation) > 1 else [""]
    values = {
        column: tuple(_value(cells[column + suffix]) for suffix in suffixes)
        for column in columns
        if column in cells and permutation and not _is_of_recording(column)
    }
    values |= {
        column: (_value(cells[column]),) for column in columns if column in cells and _is_of_recording(column)
    }
    known = {
        *_FIXED,
        *columns,
        *(column + suffix for column in columns for suffix in _suffixes(cells, column)),
    }
    metadata = {key: _condition(value) for key, value in cells.items() if key not in known and value != ""}
    reasons = json.loads(cells["reasons"]) if cells["reasons"] else {}
    if not isinstance(reasons, dict) or not all(isinstance(each, str) for each in reasons.values()):
        raise ValueError(f"{cells['identifier']}: expected reasons as a mapping of columns to words")
    return Row(
        identifier=cells["identifier"],
        scores=Scores(values, reasons, permutation, unassigned_db=_value(cells.get("unassigned_db", ""))),
        seconds=_value(cells["seconds"]),
        content=cells["content"],
        metadata=metadata,
        failure=cells["failure"],
        separation_seconds=_value(cells.get("separation_seconds", "")),
    )


def _is_of_recording(column: str) -> bool:
    return column in SCORES and SCORES[column].of_recording


def _suffixes(cells: Cells, column: str) -> list[str]:
    return [
        key[len(column) :]
        for key in cells
        if key.startswith(f"{column}_") and key[len(column) + 1 :].isdigit()
    ]


def _as_one_type(values: list[float | str | None]) -> list[Any]:
    """Numbers, or texts if any of the values is a text."""
    if any(isinstance(value, str) for value in values):
        return [None if value is None else str(value) for value in values]
    return [None if value is None else float(value) for value in values]


def _text(value: float | str | None) -> str:
    return "" if value is None else f"{value:.8g}" if isinstance(value, float) else str(value)


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _value(cell: str | float) -> float:
    return math.nan if cell == "" else float(cell)


def _condition(cell: str | float) -> str | float:
    try:
        number = float(cell)
    except ValueError:
        return cell
    return number if math.isfinite(number) else cell
