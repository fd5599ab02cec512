"""Errors of timelines are found where they are, and drawn as what they are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from polsess.cli.main import app
from polsess.cli.terminal import ExitCode
from polsess.evaluation import evaluate
from polsess.report import ReportOptions, create_report, open_runs
from polsess.report.turns import Conversation, find_errors, legend, show_turns
from polsess.timelines import Timeline, Turn, turns_of
from tests.evaluation.corpora import open_folder
from tests.evaluation.test_conversations import FAST, TURNS, Scripted, write_conversations
from tests.report.test_report import Page

TRUTH = (Turn(0, 4, "anna"), Turn(3, 6, "jan"), Turn(8, 9, "anna"))


def conversation(*estimate: Turn, truth: Timeline = TRUTH) -> Conversation:
    return Conversation(("anna", "jan"), ("t2", "t1"), truth, estimate)


def errors(*estimate: Turn) -> list[tuple[float, float, int, str, bool]]:
    return [(e.start, e.end, e.lane, e.kind, e.talks) for e in find_errors(conversation(*estimate))]


def test_what_is_right_is_no_error() -> None:
    assert errors(Turn(0, 4, "t2"), Turn(3, 6, "t1"), Turn(8, 9, "t2")) == []
    edges = (Turn(0.09, 4.05, "t2"), Turn(3, 6, "t1"), Turn(8, 9, "t2"))
    assert errors(*edges) == [], "edges are never exact"


def test_missed_false_and_confused() -> None:
    found = errors(Turn(0, 4, "t2"), Turn(3, 5, "t1"), Turn(6.5, 7, "t1"), Turn(8, 9, "t1"))
    assert found == [
        (5, 6, 1, "missed", True),
        (6.5, 7, 1, "false", False),
        (8, 9, 0, "confused", True),
        (8, 9, 1, "confused", False),
    ]


def test_a_track_of_nobody_has_a_row_of_its_own() -> None:
    found = conversation(*TRUTH, Turn(1, 2, "t3"), truth=())
    assert found.lanes == (("anna", "t2"), ("jan", "t1"), ("", "anna"), ("", "jan"), ("", "t3"))
    extra = (Turn(0, 4, "t2"), Turn(3, 6, "t1"), Turn(8, 9, "t2"), Turn(9.5, 10, "t3"))
    assert errors(*extra) == [(9.5, 10, 2, "false", False)]


def test_errors_are_one_although_others_begin_meanwhile() -> None:
    found = find_errors(
        Conversation(("a", "b"), ("x", "y"), (Turn(0, 5, "a"), Turn(1, 2, "b")), (Turn(1, 2, "y"),))
    )
    assert [(e.start, e.end, e.kind) for e in found] == [(0, 5, "missed")]


def test_every_frame_is_an_error_or_right() -> None:
    random = np.random.default_rng(0)
    real, heard = random.random((2, 2, 200)) < 0.4
    hop = 0.25
    turns = [turns_of(rows, names, hop) for rows, names in ((real, ["a", "b"]), (heard, ["x", "y"]))]
    marked = np.zeros((2, 200), bool)
    for each in find_errors(Conversation(("a", "b"), ("x", "y"), *turns)):
        first, last = round(each.start / hop), round(each.end / hop)
        assert not marked[each.lane, first:last].any()
        marked[each.lane, first:last] = True
        assert (real[each.lane, first:last] == each.talks).all()
    assert (marked == (real != heard)).all()


@pytest.mark.parametrize("seconds", [5.5, 12.0])
def test_a_row_per_speaker_with_times_to_jump_to(seconds: float) -> None:
    evil = "<script>'\"&"
    found = Conversation(
        (evil, "jan"), ("t2", "t1"), (Turn(0, 4, evil), Turn(3, 6, "jan")), (Turn(0, 4, "t2"),)
    )
    markup, starts = show_turns(evil, found, seconds)
    page = Page(markup)
    assert starts == [3]
    assert len(page.all("div", "lane")) == 2
    assert not page.all("script")
    (missed,) = page.all("rect", "missed")
    assert missed["x"] == f"{100 * 3 / seconds:.3f}%"
    assert missed["width"] == f"{100 * (min(6, seconds) - 3) / seconds:.3f}%"
    assert f"missed {min(6, seconds) - 3:.1f} s" in page.text["figcaption"][0]


def test_nothing_to_mark() -> None:
    markup, starts = show_turns("a", Conversation((), (), (), ()), 3.0)
    assert starts == []
    assert "no errors" in markup
    Page(legend())


def test_players_of_conversations_show_turns_and_play_a_minute(tmp_path: Path) -> None:
    corpus = open_folder(write_conversations(tmp_path / "data"))
    missed = (Turn(0.0, 2.5, "speaker1"), Turn(4.5, 6.0, "speaker1"))
    evaluate(Scripted(missed), corpus, metrics=FAST, folder=tmp_path / "out", save_estimates=True)
    text, problems = create_report(open_runs([str(tmp_path / "out")]), ReportOptions(num_examples=1))
    assert problems == []
    page = Page(text)
    player = page.all("article", "player")[0]
    assert player["data-seconds"] == "6"
    assert json.loads(player["data-errors"] or "") == [2.0]
    assert len(page.all("div", "lane")) == 4
    assert len(page.all("rect", "missed")) == 3, "one for each player and one in the legend"
    assert any("jan: reference" in each for each in page.text["span"])
    assert [each["value"] for each in page.all("button", "step")] == ["-1", "1"] * 2
    shown = CliRunner().invoke(app, ["report", str(tmp_path / "out"), "-o", str(tmp_path / "a.html")])
    assert shown.exit_code == 0


def test_timelines_that_contradict_themselves_are_named(tmp_path: Path) -> None:
    corpus = open_folder(write_conversations(tmp_path / "data"))
    evaluate(Scripted(TURNS), corpus, metrics=FAST, folder=tmp_path / "out")
    path = tmp_path / "out" / "timelines.jsonl"
    path.write_text(path.read_text().replace('"tracks":["speaker2","speaker1"]', '"tracks":["speaker2"]'))
    shown = CliRunner().invoke(app, ["report", str(tmp_path / "out"), "-o", str(tmp_path / "a.html")])
    assert shown.exit_code == ExitCode.USAGE
    assert "timelines.jsonl, line 1" in shown.stderr
    assert "tracks: expected one for each of the 2 speakers, got 1" in shown.stderr
