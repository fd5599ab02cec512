"""Scores of separated and enhanced speech, and what a set of them says."""

from polsess.metrics.comparison import Difference, correct_after_holm, paired_difference
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
    "Difference",
    "Score",
    "Scores",
    "Summary",
    "UndefinedScoreError",
    "bootstrap_interval",
    "columns_of",
    "correct_after_holm",
    "failure_rate",
    "missing_metrics",
    "paired_difference",
    "resolve_metrics",
    "score_utterance",
    "summarise",
]
