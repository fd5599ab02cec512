"""The tables of one evaluation."""

from __future__ import annotations

import math

from polsess.evaluate.results import Evaluation
from polsess.metrics import Summary, failure_rate, name_of, title_of
from polsess.text_tables import markdown, number, percent


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
            lines.append(f"{name_of(column)}: {count} x {reason}")
    return lines


def _cells(summary: Summary) -> list[str]:
    interval = f"{number(summary.low)} to {number(summary.high)}" if math.isfinite(summary.low) else "-"
    return [number(summary.mean), interval, number(summary.median), str(summary.count)]
