"""Evaluation of models and of estimates in files: every utterance scored, nothing dropped."""

from polsess.evaluation.card_results import measured_result
from polsess.evaluation.corpus import name_of_data, names_of_data, open_corpus
from polsess.evaluation.estimate_files import FolderSystem, open_estimates
from polsess.evaluation.onnx_systems import OnnxSystem
from polsess.evaluation.opening import open_combined, open_models
from polsess.evaluation.results import Evaluation, Row
from polsess.evaluation.runner import evaluate, has_conversations
from polsess.evaluation.storage import SavedEvaluation, UtteranceSounds, read_evaluation
from polsess.evaluation.systems import ModelSystem, System

__all__ = [
    "Evaluation",
    "FolderSystem",
    "ModelSystem",
    "OnnxSystem",
    "Row",
    "SavedEvaluation",
    "System",
    "UtteranceSounds",
    "evaluate",
    "has_conversations",
    "measured_result",
    "name_of_data",
    "names_of_data",
    "open_combined",
    "open_corpus",
    "open_estimates",
    "open_models",
    "read_evaluation",
]
