"""Results as text: for the terminal and documents (Markdown) and for papers (LaTeX)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from polsess.evaluate.results import Evaluation
from polsess.metrics import SCORES, Summary, failure_rate

Cells = Sequence[Sequence[str]]


def summary_table(evaluation: Evaluation) -> str:
    """One line per score: mean, interval, median, failures (Markdown)."""
    header = ["score", "mean", "95 % interval", "median", "n", "no value"]
    rows = []
    for column in evaluation.columns:
        if column != "si_snr_mixture":
            summary = evaluation.summary(column)
            rows.append([title_of(column), *_cells(summary), str(summary.num_failures)])
    return markdown(header, rows)


def strata_table(evaluation: Evaluation, key: str, column: str = "si_snri") -> str:
    """One line per group of a condition, with the rates of utterances below 0 and 5 dB (Markdown)."""
    header = [key, "mean", "95 % interval", "median", "n", "below 0 dB", "below 5 dB"]
    rows = []
    for label, part in evaluation.strata(key).items():
        rates = [percent(failure_rate(part.values(column), threshold)) for threshold in (0, 5)]
        rows.append([label, *_cells(part.summary(column)), *rates])
    return markdown(header, rows)


def failure_lines(evaluation: Evaluation) -> list[str]:
    """Why scores are missing, e.g. ``PESQ: 3 x silent reference``."""
    lines = []
    for column in evaluation.columns:
        for reason, count in evaluation.summary(column).failures.items():
            lines.append(f"{SCORES[column].title}: {count} x {reason}")
    return lines


def markdown(header: Sequence[str], rows: Cells) -> str:
    """A table that reads well as plain text too: columns are aligned, numbers to the right."""
    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(len(line[index]) for line in lines) for index in range(len(header))]

    def draw(line: Sequence[str]) -> str:
        cells = [line[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        return f"| {' | '.join(cells)} |"

    rule = "|".join([":" + "-" * (widths[0] + 1), *("-" * (width + 1) + ":" for width in widths[1:])])
    return "\n".join([draw(header), f"|{rule}|", *(draw(row) for row in rows)])


def latex(header: Sequence[str], rows: Cells) -> str:
    """The same table for the package booktabs."""
    body = [" & ".join(_escape(cell) for cell in line) + r" \\" for line in (header, *rows)]
    columns = "l" + "r" * (len(header) - 1)
    parts = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", body[0], r"\midrule", *body[1:]]
    return "\n".join([*parts, r"\bottomrule", r"\end{tabular}"])


def title_of(column: str) -> str:
    """A score's name with its unit."""
    score = SCORES[column]
    return f"{score.title} [{score.unit}]" if score.unit else score.title


def number(value: float, digits: int = 2) -> str:
    """A number of a table; a dash where there is none."""
    return f"{value:.{digits}f}" if math.isfinite(value) else "-"


def percent(rate: float) -> str:
    """A share as a percentage; a dash where there is none."""
    return f"{100 * rate:.1f} %" if math.isfinite(rate) else "-"


def _cells(summary: Summary) -> list[str]:
    interval = f"{number(summary.low)} to {number(summary.high)}" if math.isfinite(summary.low) else "-"
    return [number(summary.mean), interval, number(summary.median), str(summary.count)]


def _escape(cell: str) -> str:
    for character in "&%_#$":
        cell = cell.replace(character, f"\\{character}")
    return cell
