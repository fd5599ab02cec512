"""Scores of separated and enhanced speech, their means with intervals, and paired tests."""

from polsess.metrics.conversations import Conversation
from polsess.metrics.detection import Detection, EqualErrors, count_frames, find_equal_errors
from polsess.metrics.paired_test import Difference, correct_after_holm, paired_difference
from polsess.metrics.perceptual import UndefinedScoreError
from polsess.metrics.predictors import PredictorConfig, check_predictor, parse_predictor
from polsess.metrics.scores import (
    CONVERSATION,
    METRICS,
    SCORES,
    WORD_ERRORS,
    Score,
    Scores,
    columns_of,
    is_improvement,
    lower_is_better,
    missing_metrics,
    name_of,
    resolve_metrics,
    score_utterance,
    title_of,
    unit_of,
)
from polsess.metrics.strata import group_by_condition
from polsess.metrics.summary import Summary, failure_rate, summarise, summarise_runs

__all__ = [
    "CONVERSATION",
    "METRICS",
    "SCORES",
    "WORD_ERRORS",
    "Conversation",
    "Detection",
    "Difference",
    "EqualErrors",
    "PredictorConfig",
    "Score",
    "Scores",
    "Summary",
    "UndefinedScoreError",
    "check_predictor",
    "columns_of",
    "correct_after_holm",
    "count_frames",
    "failure_rate",
    "find_equal_errors",
    "group_by_condition",
    "is_improvement",
    "lower_is_better",
    "missing_metrics",
    "name_of",
    "paired_difference",
    "parse_predictor",
    "resolve_metrics",
    "score_utterance",
    "summarise",
    "summarise_runs",
    "title_of",
    "unit_of",
]
