"""Long work says how far it is where there is no terminal, and short work says nothing."""

from __future__ import annotations

from polsess.cli._progress_lines import ProgressLines
from polsess.cli.terminal import Terminal


def test_lines_come_seldomer_the_longer_the_work_lasts() -> None:
    said: list[str] = []
    now = 0.0
    with ProgressLines(said.append, lambda: now) as progress:
        task = progress.add_task("separating", total=1000)
        for second in range(0, 1000, 10):
            now = float(second)
            progress.update(task, completed=second)
    assert [line.split(" after ")[1].split(",")[0] for line in said] == [
        "30 s",
        "60 s",
        "2 min",
        "4 min",
        "8 min",
        "16 min",
    ]
    assert said[0] == "separating: 30 of 1000 after 30 s, about 16 min left"


def test_work_of_unknown_length_says_what_is_done() -> None:
    said: list[str] = []
    now = 0.0
    with ProgressLines(said.append, lambda: now) as progress:
        task = progress.add_task("reading", total=None)
        now = 45.0
        progress.advance(task, 7)
    assert said == ["reading: 7 after 45 s"]


def test_the_end_is_left_to_the_command() -> None:
    said: list[str] = []
    now = 0.0
    with ProgressLines(said.append, lambda: now) as progress:
        task = progress.add_task("scoring", total=2)
        now = 100.0
        progress.update(task, completed=2)
    assert not said


def test_a_quiet_program_says_nothing() -> None:
    assert not isinstance(Terminal(quiet=True).progress(), ProgressLines)
    assert isinstance(Terminal().progress(), ProgressLines)  # a test has no terminal
