"""Scores of separated and enhanced speech, and what a set of them says."""

from polsess.metrics.perceptual import UndefinedScoreError
from polsess.metrics.scores import (
    METRICS,
    SCORES,
    Score,
    Scores,
    columns_of,
    missing_metrics,
    resolve_metrics,
    score_utterance,
)
from polsess.metrics.summary import Summary, bootstrap_interval, failure_rate, summarise

__all__ = [
    "METRICS",
    "SCORES",
    "Score",
    "Scores",
    "Summary",
    "UndefinedScoreError",
    "bootstrap_interval",
    "columns_of",
    "failure_rate",
    "missing_metrics",
    "resolve_metrics",
    "score_utterance",
    "summarise",
]
