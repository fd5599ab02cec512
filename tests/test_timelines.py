from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from polsess.timelines import (
    TimelineError,
    Turn,
    activity,
    list_overlaps,
    list_speakers,
    overlap_share,
    read_rttm,
    sorted_timeline,
    turns_of,
    write_rttm,
)

TALK = (Turn(0.0, 2.0, "anna"), Turn(1.5, 3.0, "jan"), Turn(4.0, 5.0, "anna"))


def test_turns_of_one_speaker_are_joined_over_short_pauses_only() -> None:
    turns = [Turn(2.1, 3.0, "a"), Turn(0.0, 2.0, "a"), Turn(1.0, 1.5, "b"), Turn(0.5, 1.2, "a")]
    assert sorted_timeline(turns) == (Turn(0.0, 2.0, "a"), Turn(1.0, 1.5, "b"), Turn(2.1, 3.0, "a"))
    assert sorted_timeline(turns, join_seconds=0.2) == (Turn(0.0, 3.0, "a"), Turn(1.0, 1.5, "b"))


def test_overlap_is_counted_once() -> None:
    assert overlap_share(TALK) == pytest.approx(0.5 / 4.0)
    assert overlap_share(()) == 0.0
    assert overlap_share((Turn(0, 1, "a"), Turn(0, 1, "b"), Turn(0, 1, "c"))) == 1.0


def test_overlaps_are_where_several_talk() -> None:
    assert list_overlaps(TALK) == [(1.5, 2.0)]
    three = (Turn(0, 4, "a"), Turn(1, 3, "b"), Turn(2, 5, "c"), Turn(5, 6, "a"))
    assert list_overlaps(three) == [(1, 4)]


def test_frames_and_turns_are_two_forms_of_one_thing() -> None:
    frames = activity(TALK, ["anna", "jan"], 50, 0.1)
    assert frames.sum(1).tolist() == [30, 15]
    back = turns_of(frames, ["anna", "jan"], 0.1)
    assert [turn.speaker for turn in back] == ["anna", "jan", "anna"]
    np.testing.assert_allclose([(t.start, t.end) for t in back], [(t.start, t.end) for t in TALK], atol=1e-9)


def test_frames_beyond_the_end_and_unknown_speakers_are_left_out() -> None:
    assert activity(TALK, ["jan", "nobody"], 20, 0.1).sum(1).tolist() == [5, 0]


def test_rttm_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "talk.rttm"
    path.write_text(
        ";; a comment\nSPKR-INFO talk 1 <NA> <NA> <NA> unknown anna <NA>\n\n" + write_rttm(TALK, "my talk")
    )
    assert read_rttm(path) == {"my_talk": TALK}
    assert list_speakers(TALK) == ("anna", "jan")


def test_a_byte_order_mark_and_windows_line_ends_cost_no_turn(tmp_path: Path) -> None:
    path = tmp_path / "talk.rttm"
    path.write_bytes(b"\xef\xbb\xbf" + write_rttm(TALK, "talk").replace("\n", "\r\n").encode())
    assert read_rttm(path) == {"talk": TALK}


def test_names_that_a_line_cannot_hold_stay_apart(tmp_path: Path) -> None:
    talk = (Turn(0, 1, "a b"), Turn(1, 2, "a_b"), Turn(2, 3, "a\tb\n"), Turn(3, 4, " "))
    path = tmp_path / "talk.rttm"
    path.write_text(write_rttm(talk, "\n"))
    (read,) = read_rttm(path).values()
    assert [turn.speaker for turn in read] == ["a_b", "a_b_2", "a_b_3", "speaker"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("SPEAKER talk 1 0.0 1.0 <NA>", "line 1: expected at least 9 fields"),
        ("SPEAKER talk 1 zero 1.0 <NA> <NA> anna <NA>", "line 1: expected seconds from 0 up, got 'zero'"),
        ("SPEAKER talk 1 -1 1.0 <NA> <NA> anna <NA>", "got '-1'"),
        ("SPEAKER talk 1 0 nan <NA> <NA> anna <NA>", "got 'nan'"),
        ("0.000000\t1.000000\tanna", "line 1: expected a line of RTTM, .* got '0.000000'"),
    ],
)
def test_wrong_lines_are_named(tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "talk.rttm"
    path.write_text(line)
    with pytest.raises(TimelineError, match=reason):
        read_rttm(path)


def test_a_binary_file_is_no_timeline(tmp_path: Path) -> None:
    path = tmp_path / "talk.rttm"
    path.write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(TimelineError, match="no text in UTF-8"):
        read_rttm(path)


def test_turns_that_are_joined_are_as_sure_as_they_are_on_average() -> None:
    turns = [
        Turn(0.0, 1.0, "a", 0.5),
        Turn(1.0, 4.0, "a", 0.9),
        Turn(2.0, 3.0, "b", 0.7),
        Turn(3.0, 4.0, "b"),
    ]
    joined = {turn.speaker: turn.confidence for turn in sorted_timeline(turns)}
    assert joined["a"] == pytest.approx(0.8)
    assert joined["b"] is None
    assert Turn(0.0, 1.0, "a", 0.5) == Turn(0.0, 1.0, "a")
