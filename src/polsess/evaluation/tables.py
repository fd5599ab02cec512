"""The tables of one evaluation."""

from __future__ import annotations

import math
from collections.abc import Sequence

from polsess.data.polsess.layers import VARIANTS
from polsess.evaluation.results import Evaluation
from polsess.metrics import Summary, failure_rate, is_improvement, name_of, title_of
from polsess.text_tables import markdown, number, percent

_HIDDEN = "si_snr_mixture"


def summary_table(evaluation: Evaluation) -> str:
    """One line per score: mean, interval, median, failures (Markdown)."""
    header = ["score", "mean", "95 % interval", "median", "n", "no value"]
    rows = []
    for column in evaluation.columns:
        if column != _HIDDEN:
            summary = evaluation.summary(column)
            rows.append([title_of(column), *_cells(summary), str(summary.num_failures)])
    return markdown(header, rows)


def caution_lines(evaluation: Evaluation) -> list[str]:
    """Reasons for missing or rough intervals, e.g. ``SI-SNR, SDR: no interval, ...``."""
    columns: dict[str, list[str]] = {}
    for column in evaluation.columns:
        if caution := evaluation.summary(column).caution:
            columns.setdefault(caution, []).append(name_of(column))
    return [f"{', '.join(names)}: {caution}" for caution, names in columns.items()]


def strata_table(evaluation: Evaluation, key: str, column: str = "si_snri") -> str:
    """One line per group of a condition; of improvements, rates of utterances below 0 and 5 dB (Markdown)."""
    thresholds = (0, 5) if is_improvement(column) else ()
    header = [key, "mean", "95 % interval", "median", "n", *(f"below {each} dB" for each in thresholds)]
    rows = []
    for label, part in evaluation.strata(key).items():
        rates = [percent(failure_rate(part.values(column), threshold)) for threshold in thresholds]
        rows.append([label, *_cells(part.summary(column)), *rates])
    return markdown(header, rows)


def variants_table(evaluations: Sequence[Evaluation]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: every system's scores by task and variant of PolSESS, and over all variants."""
    columns = list(dict.fromkeys(name for each in evaluations for name in each.columns if name != _HIDDEN))
    header = ["task", "variant", "system", "n", *(title_of(name) for name in columns)]
    header += ["SI-SNRi 95 % interval", "below 0 dB"]
    rows = []
    for evaluation in sorted(evaluations, key=lambda each: str(each.settings["task"])):
        strata = evaluation.strata("variant")
        known = [name for name in VARIANTS if name in strata]
        for label, part in [*((name, strata[name]) for name in known), ("all", evaluation)]:
            means = [number(part.summary(name).mean) if name in part.columns else "-" for name in columns]
            rate = percent(failure_rate(part.values("si_snri"), 0)) if "si_snri" in part.columns else "-"
            interval = _cells(part.summary("si_snri"))[1] if "si_snri" in part.columns else "-"
            first = [str(evaluation.settings["task"]), label, evaluation.system, str(len(part.rows))]
            rows.append([*first, *means, interval, rate])
    return header, rows


def list_failures(evaluation: Evaluation) -> list[tuple[str, int, str]]:
    """Scores that are missing, how often, and why, e.g. ``("PESQ, STOI", 3, "silent reference")``."""
    columns: dict[tuple[str, int], list[str]] = {}
    for column in evaluation.columns:
        for each in evaluation.summary(column).failures.items():
            columns.setdefault(each, []).append(name_of(column))
    every = len(evaluation.columns)
    return [
        ("every score" if len(names) == every else ", ".join(names), count, reason)
        for (reason, count), names in columns.items()
    ]


def failure_lines(evaluation: Evaluation) -> list[str]:
    """Reasons for missing scores, with their counts, e.g. ``PESQ, STOI: 3 x silent reference``."""
    return [f"{names}: {count} x {reason}" for names, count, reason in list_failures(evaluation)]


def _cells(summary: Summary) -> list[str]:
    interval = f"{number(summary.low)} to {number(summary.high)}" if math.isfinite(summary.low) else "-"
    return [number(summary.mean), interval, number(summary.median), str(summary.count)]
