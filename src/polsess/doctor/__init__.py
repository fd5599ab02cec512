"""What this machine has, what will be slow or fail on it, and the command that mends it."""

from polsess.doctor.facts import Facts, gather_facts
from polsess.doctor.findings import Finding, judge
from polsess.doctor.prediction import Outlook, describe_outlook, predict

__all__ = ["Facts", "Finding", "Outlook", "describe_outlook", "gather_facts", "judge", "predict"]
