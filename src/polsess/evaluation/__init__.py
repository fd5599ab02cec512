"""Evaluation of models and of estimates in files: every utterance scored, nothing dropped."""

from polsess.evaluation.journal import read_evaluation
from polsess.evaluation.opening import name_of_data, open_corpus
from polsess.evaluation.reopening import Heard, Reopened
from polsess.evaluation.results import Evaluation, Row
from polsess.evaluation.runner import evaluate
from polsess.evaluation.systems import FolderSystem, ModelSystem, System, open_estimates, open_models

__all__ = [
    "Evaluation",
    "FolderSystem",
    "Heard",
    "ModelSystem",
    "Reopened",
    "Row",
    "System",
    "evaluate",
    "name_of_data",
    "open_corpus",
    "open_estimates",
    "open_models",
    "read_evaluation",
]
