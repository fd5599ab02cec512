"""A table of systems for a thesis or a paper: scores with intervals, costs, and the best marked.

Shapes: R runs, N utterances.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from polsess.evaluation.comparison import Comparison, Contender, compare
from polsess.metrics import lower_is_better, name_of, summarise_runs, title_of
from polsess.schema import ConfigError
from polsess.text_tables import Latex, comma_separated, escape_latex, latex, markdown, number

TableText = Literal["markdown", "latex", "csv"]
Mark = Literal["", "best", "tied"]
DEFAULT_COLUMNS = ("si_snri", "sdri", "pesq", "stoi", "parameters", "gmacs", "rtf")
"""Columns of a table where none are chosen, as far as all systems have them."""
_COSTS = {"parameters": "params [M]", "gmacs": "GMAC/s", "rtf": "RTF"}


@dataclass(frozen=True)
class Cell:
    """One value of one system."""

    mean: float
    reach: float = math.nan
    """Half of the 95 % interval."""
    mark: Mark = ""
    """``best`` for the best mean, ``tied`` for one that is not shown to differ from it."""
    digits: int = 2

    @property
    def text(self) -> str:
        """Mean and half of the interval."""
        reach = f" ± {number(self.reach, self.digits)}" if math.isfinite(self.reach) else ""
        return number(self.mean, self.digits) + reach


@dataclass(frozen=True)
class SystemTable:
    """Rows of systems with cells by column."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]
    caption: str

    def render(self, text: TableText) -> str:
        """The table as text.

        Args:
            text: ``markdown``, ``latex`` (needs booktabs and no other package) or ``csv``.
        """
        if text == "csv":
            return self._comma_separated()
        header = ["system", *(_title(column) for column in self.columns)]
        if text == "markdown":
            table = markdown(header, [[name, *map(_in_markdown, cells)] for name, cells in self.rows])
            return f"{table}\n\n{self.caption}\n"
        table = latex(header, [[name, *map(_in_latex, cells)] for name, cells in self.rows])
        parts = [r"\begin{table}", r"\centering", rf"\caption{{{_caption_in_latex(self.caption)}}}", table]
        return "\n".join([*parts, r"\end{table}"]) + "\n"

    def _comma_separated(self) -> str:
        header, lines = ["system"], [[name] for name, _ in self.rows]
        for index, column in enumerate(self.columns):
            is_score = column not in _COSTS
            header += [column, f"{column}_interval_half", f"{column}_mark"] if is_score else [column]
            for line, (_, cells) in zip(lines, self.rows, strict=True):
                cell = cells[index]
                line += [_plain(cell.mean), *([_plain(cell.reach), cell.mark] if is_score else [])]
        return comma_separated(header, lines)


def system_table(
    contenders: Sequence[Contender], columns: Sequence[str] = (), *, common: bool = False
) -> SystemTable:
    """Put systems side by side, each with its training runs pooled.

    Args:
        contenders: At least one.
        columns: Scores and costs (``parameters``, ``gmacs``, ``rtf``); those of ``DEFAULT_COLUMNS`` that all
            systems have if left out.
        common: Use the utterances that all systems have; otherwise differing lists are an error.

    Raises:
        ConfigError: If a system lacks a score, or the lists or settings differ.
    """
    chosen = tuple(columns) or tuple(name for name in DEFAULT_COLUMNS if _all_have(contenders, name))
    for contender in contenders:
        for name in chosen:
            if not _all_have(contenders if name in _COSTS else [contender], name):
                known = ", ".join([*contender.runs[0].columns, *_COSTS])
                raise ConfigError(f"table: {contender.name} has no column '{name}'. Known: {known}.")
    cells = [_column(contenders, name, common) for name in chosen]
    rows = tuple(
        (contender.name, tuple(column[index] for column in cells))
        for index, contender in enumerate(contenders)
    )
    return SystemTable(chosen, rows, _caption(contenders, chosen, common))


def _all_have(contenders: Sequence[Contender], column: str) -> bool:
    if column in _COSTS:
        return any(math.isfinite(_cost(contender, column)) for contender in contenders)
    return all(column in run.columns for contender in contenders for run in contender.runs)


def _column(contenders: Sequence[Contender], column: str, common: bool) -> list[Cell]:
    if column in _COSTS:
        digits = 3 if column == "rtf" else 2
        return [Cell(_cost(contender, column), digits=digits) for contender in contenders]
    if len(contenders) == 1:
        return [_score(contenders[0], column)]
    comparison = compare(contenders, column, common=common)
    cells = [_score(contender, column) for contender in comparison.contenders]
    marks = mark_best(comparison, [cell.mean for cell in cells])
    return [Cell(cell.mean, cell.reach, mark) for cell, mark in zip(cells, marks, strict=True)]


def mark_best(comparison: Comparison, means: Sequence[float]) -> list[Mark]:
    """``best`` for the contender with the best mean, ``tied`` for those not shown to differ from it."""
    names = [contender.name for contender in comparison.contenders]
    sign = -1 if lower_is_better(comparison.column) else 1
    values = [-math.inf if math.isnan(mean) else sign * mean for mean in means]
    best = values.index(max(values))
    tied = {
        other.name
        for one, two, difference in comparison.pairs
        for this, other in ((one, two), (two, one))
        if this.name == names[best] and not difference.is_shown
    }
    return ["best" if index == best else "tied" if name in tied else "" for index, name in enumerate(names)]


def _score(contender: Contender, column: str) -> Cell:
    clusters = [row.clusters for row in contender.runs[0].rows]
    summary = summarise_runs(contender.values(column), clusters)
    return Cell(summary.mean, summary.high - summary.mean)


def _cost(contender: Contender, column: str) -> float:
    """A cost of a system, the mean over its runs; not a number where the evaluations do not hold it."""
    found = []
    for run in contender.runs:
        if column == "rtf":
            timed = [row for row in run.rows if math.isfinite(row.separation_seconds)]
            seconds = sum(row.seconds for row in timed)
            found.append(sum(row.separation_seconds for row in timed) / seconds if seconds else math.nan)
        else:
            key, unit = {"parameters": ("parameters", 1e6), "gmacs": ("macs_per_second", 1e9)}[column]
            found.append(float(run.origin.get(key, math.nan)) / unit)
    return float(np.mean(found))


def _caption(contenders: Sequence[Contender], columns: Sequence[str], common: bool) -> str:
    first = contenders[0].runs[0]
    settings, several = first.settings, len(contenders) > 1
    where = "the utterances that all systems have" if common else f"{len(first.rows)} utterances"
    task, rate = settings.get("task", "unknown"), settings.get("sample_rate", "unknown")
    parts = [
        f"Task {task}, {where} at {rate} Hz, list {first.list_hash}. Mean ± half of its 95 % interval over "
        "utterances, which allows for speakers that recur."
    ]
    counts = [len(contender.runs) for contender in contenders]
    if max(counts) > 1:
        listed = ", ".join(f"{each.name} {count}" for each, count in zip(contenders, counts, strict=True))
        parts.append(f"Training runs, pooled: {listed}.")
    if several and any(column not in _COSTS for column in columns):
        parts.append("Bold: the best. †: not shown to differ from the best (t-test, Holm, 5 %).")
    if "gmacs" in columns:
        parts.append("GMAC/s: multiply-accumulates per second of sound.")
    if "rtf" in columns:
        parts.append("RTF: time of separation per second of sound, as measured during the evaluations.")
    return " ".join(parts)


def _title(column: str) -> str:
    return _COSTS.get(column) or (title_of(column) if name_of(column) != column else column)


def _in_markdown(cell: Cell) -> str:
    if cell.mark == "best":
        mean, separator, reach = cell.text.partition(" ")
        return f"**{mean}**{separator}{reach}"
    return cell.text + (" †" if cell.mark == "tied" else "")


def _in_latex(cell: Cell) -> Latex:
    mean, _, reach = cell.text.partition(" ± ")
    bold = rf"\textbf{{{mean}}}" if cell.mark == "best" else mean
    dagger = r"$^\dagger$" if cell.mark == "tied" else ""
    return Latex(bold + (rf" $\pm$ {reach}" if reach else "") + dagger)


def _caption_in_latex(caption: str) -> str:
    return escape_latex(caption).replace("±", r"$\pm$").replace("†", r"$^\dagger$")


def _plain(value: float) -> str:
    return f"{value:.6g}" if math.isfinite(value) else ""
