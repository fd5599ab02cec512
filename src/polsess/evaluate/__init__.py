"""Evaluation of models and of estimates in files: every utterance scored, nothing dropped."""

from polsess.evaluate.journal import read_evaluation
from polsess.evaluate.opening import name_of_data, open_corpus
from polsess.evaluate.reopening import Heard, Reopened
from polsess.evaluate.results import Evaluation, Row
from polsess.evaluate.runner import evaluate
from polsess.evaluate.systems import FolderSystem, ModelSystem, System, open_estimates, open_models

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
