"""Listening tests: blind pages made from evaluations, and what the listeners' answers say."""

from polsess.listening.analysis import Analysis, analyse
from polsess.listening.answers import Answers, read_answers
from polsess.listening.clips import Clips
from polsess.listening.key import Key, Kind, read_key
from polsess.listening.page import save_test
from polsess.listening.report import save_analysis
from polsess.listening.stimuli import Anchor
from polsess.listening.trials import ListeningPlan, ListeningTest, make_test
from polsess.listening.webmushra import export_webmushra

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
