"""The summary of an evaluation: a file of JSON beside its table."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from polsess.evaluation.results import Evaluation
from polsess.files import read_json
from polsess.metrics import Summary, failure_rate, is_improvement

SUMMARY = "summary.json"


def summary_of(evaluation: Evaluation) -> dict[str, Any]:
    """Content of the summary file: settings, scores, conditions, seconds per utterance."""
    keys = evaluation.condition_keys()
    return {
        "settings": plain_settings(evaluation.settings),
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
        if is_improvement(column):
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
        "degrees_of_freedom": _number(summary.degrees),
        **({"caution": summary.caution} if summary.caution else {}),
        "failures": dict(summary.failures),
    }


def _number(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None


def plain_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings as JSON restores them, so that written and fresh settings compare equal."""
    plain: dict[str, Any] = json.loads(json.dumps(dict(settings), default=str))
    return plain


def read_summary(folder: Path) -> dict[str, Any]:
    """The summary in the folder of an evaluation.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is damaged.
    """
    path = folder / SUMMARY
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; is this the folder of a finished evaluation?")
    summary: dict[str, Any] = read_json(path)
    return summary
