"""Segments cover the recording, have one length, and do not depend on the blocks it arrives in."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polsess.audio import Samples
from polsess.inference.segments import SegmentPlan, cut, find_silences, plan_segments


@settings(max_examples=200, deadline=None)
@given(data=st.data(), total=st.integers(1, 500), longest=st.integers(1, 200), block=st.integers(1, 90))
def test_segments_cover_the_recording(data: st.DataObject, total: int, longest: int, block: int) -> None:
    overlap = data.draw(st.integers(0, longest // 2))
    plan = SegmentPlan.balanced(total, longest, overlap)
    sound = np.tile(np.arange(total, dtype=np.float32), (2, 1))
    blocks = (sound[:, start : start + block] for start in range(0, total, block))
    pieces = list(cut(plan, blocks))
    assert len(pieces) == len(plan) == len(SegmentPlan(total, longest, overlap))
    position = 0
    for index, (segment, samples) in enumerate(pieces):
        assert samples[0].tolist() == list(range(segment.start, segment.stop))
        assert len(samples[0]) == min(plan.segment, total) <= longest
        assert segment.start <= segment.keep == max(0, position - (overlap if index else 0))
        assert segment.stop > segment.keep + (overlap if index else 0)
        position = segment.stop
    assert position == total


@pytest.mark.parametrize(("total", "segment", "overlap"), [(0, 10, 2), (10, 0, 0), (10, 4, 3), (10, 4, -1)])
def test_plans_that_do_not_work(total: int, segment: int, overlap: int) -> None:
    with pytest.raises(ValueError, match="segments: expected"):
        SegmentPlan(total, segment, overlap)


def levels(*runs: tuple[int, float]) -> Samples:
    """Mean squares of runs of (frames, level in dB)."""
    return np.concatenate([np.full(frames, 10 ** (decibels / 10), np.float32) for frames, decibels in runs])


def test_long_silences_are_found_and_their_margins_stay_with_the_sound() -> None:
    found = find_silences(levels((100, -30), (80, -75), (50, -32), (59, -75), (100, -40), (200, -90)), 0.05)
    assert [time for silence in found for time in silence] == pytest.approx([5.5, 8.5, 19.95, 29.45])
    [silence] = find_silences(levels((280, -75), (100, -30)), 0.05)
    assert silence == pytest.approx((0.0, 13.5))
    for sound in (
        levels((500, -60)),
        levels((500, -400)),
        np.zeros(500, np.float32),
        np.zeros(0, np.float32),
    ):
        assert find_silences(sound, 0.05) == []


def test_no_segment_reaches_from_a_silence_into_sound() -> None:
    plan = plan_segments(1000, 100, 20, [(0, 150), (400, 700), (995, 1000)])
    silent = [(each.start, each.stop) for each in plan if each.silent]
    assert all(stop <= 150 or 400 <= start < stop <= 700 or start >= 995 for start, stop in silent)
    assert all(150 <= each.start < each.stop <= 400 or each.start >= 700 for each in plan if not each.silent)
    assert [each.stop for each in plan if each.last] == [150, 400, 700, 995, 1000]
    for before, after in itertools.pairwise(plan):
        assert after.keep == before.stop - (0 if before.last else 20)
    assert plan_segments(1000, 100, 20) == list(SegmentPlan.balanced(1000, 100, 20))
