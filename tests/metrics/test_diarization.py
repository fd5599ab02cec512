"""The diarization error, on cases that are counted by hand."""

from __future__ import annotations

import math
import random

import pytest

from polsess.metrics.diarization import DiarizationError, diarization_error
from polsess.timelines import Turn, sorted_timeline

REFERENCE = (Turn(0.0, 4.0, "a"), Turn(3.0, 6.0, "b"), Turn(6.0, 8.0, "a"), Turn(9.0, 10.0, "b"))


def parts(error: DiarizationError) -> tuple[float, ...]:
    return error.missed, error.false_alarm, error.confusion, error.scored


def test_names_do_not_matter() -> None:
    other = tuple(Turn(turn.start, turn.end, {"a": "b", "b": "x"}[turn.speaker]) for turn in REFERENCE)
    assert parts(diarization_error(other, REFERENCE)) == (0, 0, 0, 10)


def test_parts_are_exact_in_time() -> None:
    hypothesis = (
        Turn(0.4444, 4.0, "a"),  # 0.4444 s missed
        Turn(3.0, 6.3333, "b"),  # of which 0.3333 s are invented beside a
        Turn(6.0, 7.0, "a"),
        Turn(7.0, 8.0, "b"),  # 1 s confused
        Turn(8.2, 8.7, "c"),  # 0.5 s invented
        Turn(9.0, 10.0, "b"),
    )
    error = diarization_error(hypothesis, REFERENCE)
    assert parts(error) == pytest.approx((0.4444, 0.8333, 1.0, 10.0), abs=1e-12)
    assert error.rate == pytest.approx(0.22777)
    assert (error + error).rate == error.rate
    assert (error + error).scored == 20


def test_fewer_and_more_speakers_than_there_are() -> None:
    one = sorted_timeline(Turn(turn.start, turn.end, "x") for turn in REFERENCE)
    error = diarization_error(one, REFERENCE)
    assert parts(error) == pytest.approx((1.0, 0.0, 3.0, 10.0))  # overlapped a second, b alone for three
    error = diarization_error((*REFERENCE, Turn(0.0, 10.0, "nobody")), REFERENCE)
    assert parts(error) == pytest.approx((0.0, 10.0, 0.0, 10.0))


def test_the_mapping_is_the_best_of_the_whole_recording() -> None:
    # Greedily, x would be a (4 s) and y nobody; together x is b (3 s) and y a (3 s).
    reference = (Turn(0.0, 7.0, "a"), Turn(7.0, 10.0, "b"))
    hypothesis = (Turn(0.0, 4.0, "x"), Turn(4.0, 7.0, "y"), Turn(7.0, 10.0, "x"))
    assert diarization_error(hypothesis, reference).confusion == pytest.approx(4.0)


def test_a_collar_is_left_out_on_both_sides_of_every_change() -> None:
    late = tuple(Turn(turn.start + 0.1, turn.end + 0.1, turn.speaker) for turn in REFERENCE)
    assert parts(diarization_error(late, REFERENCE)) == pytest.approx((0.2 + 0.1, 0.2 + 0.1, 0.1, 10.0))
    error = diarization_error(late, REFERENCE, collar_seconds=0.25)
    # Changes at 0, 3, 4, 6, 8, 9 and 10; the collars take 0.25 + 0.5 + 0.5 + 0.5 + 0.25 + 0.25 + 0.25 s of
    # single and 0.25 + 0.25 s of double speech.
    assert parts(error) == pytest.approx((0, 0, 0, 10 - 3.0))


def test_nothing_said_and_nothing_found() -> None:
    assert parts(diarization_error((), REFERENCE)) == (10, 0, 0, 10)
    assert parts(diarization_error(REFERENCE, ())) == (0, 10, 0, 0)
    assert math.isnan(diarization_error(REFERENCE, ()).rate)
    assert math.isnan(diarization_error((), ()).rate)


def random_turns(draw: random.Random, speakers: str) -> tuple[Turn, ...]:
    starts = [(draw.uniform(0, 55), name) for name in speakers for _ in range(6)]
    return sorted_timeline(Turn(start, start + draw.uniform(0.5, 4), name) for start, name in starts)


# Missed, false alarm, confusion and total of pyannote.metrics 4.2 for these turns; its collar is twice ours.
OF_PYANNOTE = {
    0.0: (18.971054, 10.221233, 8.534908, 43.035015),
    0.25: (14.249107, 7.79838, 6.278178, 32.461876),
}


@pytest.mark.parametrize("collar", [0.0, 0.25])
def test_random_turns_agree_with_pyannote(collar: float) -> None:
    draw = random.Random(3)
    reference, hypothesis = random_turns(draw, "abc"), random_turns(draw, "xy")
    error = diarization_error(hypothesis, reference, collar_seconds=collar)
    assert parts(error) == pytest.approx(OF_PYANNOTE[collar], abs=1e-4)
