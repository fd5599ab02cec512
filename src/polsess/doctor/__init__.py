"""Facts of this machine, what fails or will be slow on it, and the costs of a model here."""

from polsess.doctor.facts import Facts, gather_facts
from polsess.doctor.findings import Finding, judge
from polsess.doctor.prediction import Prediction, describe_prediction, predict

__all__ = ["Facts", "Finding", "Prediction", "describe_prediction", "gather_facts", "judge", "predict"]
