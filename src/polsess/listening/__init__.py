"""Listening tests: blind pages made from evaluations, and the analysis of the listeners' answers."""

from polsess.listening.analysis import Analysis, analyse
from polsess.listening.answers import Answers, read_answers
from polsess.listening.clips import Anchor, Clips
from polsess.listening.key import Key, Kind, read_key
from polsess.listening.pages import export_webmushra, save_test
from polsess.listening.results import save_analysis
from polsess.listening.trials import ListeningPlan, ListeningTest, make_test

__all__ = [
    "Analysis",
    "Anchor",
    "Answers",
    "Clips",
    "Key",
    "Kind",
    "ListeningPlan",
    "ListeningTest",
    "analyse",
    "export_webmushra",
    "make_test",
    "read_answers",
    "read_key",
    "save_analysis",
    "save_test",
]
