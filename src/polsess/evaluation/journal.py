"""The files of one evaluation: a journal while it runs, then a table and a summary.

``journal.jsonl`` takes a line per utterance as soon as it is scored, so that an interrupted evaluation goes
on where it stopped; in the end the table of scores and ``summary.json`` appear and it goes.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from polsess.evaluation.results import Evaluation, Row, columns_of_predictors
from polsess.evaluation.score_table import TableFormat, find_table, read_table, write_table
from polsess.files import write_text
from polsess.metrics import SCORES, Summary, failure_rate

JOURNAL = "journal.jsonl"
SUMMARY = "summary.json"
ESTIMATES = "estimates"
"""The folder beside the table that holds the estimates, where they were kept."""


class Journal:
    """Rows of an evaluation that is under way.

    Args:
        folder: Where the evaluation's files are; made if needed.
        settings: What is evaluated and how; a journal of other settings is not continued.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.folder = folder
        self.settings = _plain(settings)
        self._path = folder / JOURNAL

    @property
    def is_finished(self) -> bool:
        """Whether the folder holds the table and the summary."""
        return (self.folder / SUMMARY).is_file()

    def discard(self) -> None:
        """Forget what the folder holds of an evaluation."""
        while table := find_table(self.folder):
            table.unlink()
        for name in (SUMMARY, JOURNAL):
            (self.folder / name).unlink(missing_ok=True)

    def restore(self) -> list[Row]:
        """The rows written so far; a half-written last line is dropped.

        Raises:
            FileExistsError: If the folder holds another evaluation.
            ValueError: If the journal is damaged.
        """
        if self.is_finished:
            self._check(_read_json(self.folder / SUMMARY).get("settings"))
            return list(read_evaluation(self.folder).rows)
        if not self._path.is_file():
            return []
        lines = self._path.read_text(encoding="utf-8").split("\n")[:-1]  # an unfinished line has no end
        if not lines:
            return []
        try:
            settings, *rows = [json.loads(line) for line in lines]
            known = [Row.from_plain(row) for row in rows]
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"{self._path}: damaged; start anew with --overwrite.") from None
        self._check(settings)
        return known

    @contextmanager
    def writer(self, rows: list[Row]) -> Iterator[TextIO]:
        """A file that takes the rows to come, begun afresh with those that are known."""
        text = "".join(_line(part) for part in (self.settings, *(row.to_plain() for row in rows)))
        write_text(self._path, text)
        with self._path.open("a", encoding="utf-8") as file:
            yield file

    def finish(self, evaluation: Evaluation, table_format: TableFormat = "csv") -> None:
        """Write the table and the summary; the journal has done its work."""
        write_table(evaluation, self.folder, table_format)
        write_text(self.folder / SUMMARY, json.dumps(summary_of(evaluation), indent=2) + "\n")
        self._path.unlink(missing_ok=True)

    def _check(self, found: Any) -> None:
        if found == self.settings:
            return
        known = found if isinstance(found, dict) else {}
        changed = [key for key, value in self.settings.items() if known.get(key) != value]
        raise FileExistsError(
            f"{self.folder}: holds an evaluation with other settings (different: {', '.join(changed)}). "
            "Choose another folder with -o, or pass --overwrite."
        )


def append(file: TextIO, row: Row) -> None:
    """Write a row and hand it to the system, so that a killed process loses nothing."""
    file.write(_line(row.to_plain()))
    file.flush()
    os.fsync(file.fileno())


def read_evaluation(folder: Path) -> Evaluation:
    """Read a finished evaluation.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If a file is not what this library wrote.
    """
    summary = _read_json(folder / SUMMARY)
    settings = summary.get("settings")
    if not isinstance(settings, dict) or not {"system", "metrics"} <= settings.keys():
        raise ValueError(f"{folder / SUMMARY}: not the summary of an evaluation.")
    if (table := find_table(folder)) is None:
        raise FileNotFoundError(f"{folder}: no scores.csv or scores.parquet beside its {SUMMARY}.")
    origin = summary.get("origin")
    return Evaluation(
        settings["system"],
        tuple(settings["metrics"]),
        read_table(table, (*SCORES, *columns_of_predictors(settings))),
        settings,
        origin if isinstance(origin, dict) else {},
    )


def summary_of(evaluation: Evaluation) -> dict[str, Any]:
    """What the summary file holds: settings, scores, conditions and the time that the metrics took."""
    keys = evaluation.condition_keys()
    return {
        "settings": _plain(evaluation.settings),
        "origin": dict(evaluation.origin),
        "list_hash": evaluation.list_hash,
        "num_utterances": len(evaluation.rows),
        "num_failed": evaluation.num_failed,
        "scores": _scores(evaluation),
        "strata": {
            key: {label: _scores(part) for label, part in evaluation.strata(key).items()} for key in keys
        },
        "seconds_per_utterance": {
            name: round(taken, 4) for name, taken in evaluation.seconds_per_utterance.items()
        },
    }


def _scores(evaluation: Evaluation) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for column in evaluation.columns:
        found[column] = _summary(evaluation.summary(column))
        if column.endswith("i"):
            for threshold in (0, 5):
                rate = failure_rate(evaluation.values(column), threshold)
                found[column][f"rate_below_{threshold}_db"] = _number(rate)
    return found


def _summary(summary: Summary) -> dict[str, Any]:
    return {
        "mean": _number(summary.mean),
        "median": _number(summary.median),
        "interval_95": [_number(summary.low), _number(summary.high)],
        "count": summary.count,
        "clusters": summary.num_clusters,
        "failures": dict(summary.failures),
    }


def _number(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None


def _line(data: Mapping[str, Any]) -> str:
    return json.dumps(data) + "\n"


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """As it comes back from JSON, so that written and fresh settings compare equal."""
    plain: dict[str, Any] = json.loads(json.dumps(dict(settings), default=str))
    return plain


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; is this the folder of a finished evaluation?")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise ValueError(f"{path}: not readable as JSON.") from None
    if not isinstance(data, dict):
        raise ValueError(f"{path}: expected a mapping at the top.")
    return data
