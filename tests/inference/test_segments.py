"""Segments cover the recording, have one length, and do not depend on the blocks it arrives in."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from polsess.inference.segments import SegmentPlan, cut


@settings(max_examples=200, deadline=None)
@given(data=st.data(), total=st.integers(1, 500), longest=st.integers(1, 200), block=st.integers(1, 90))
def test_segments_cover_the_recording(data: st.DataObject, total: int, longest: int, block: int) -> None:
    overlap = data.draw(st.integers(0, longest // 2))
    plan = SegmentPlan.balanced(total, longest, overlap)
    sound = torch.arange(total).expand(2, total)
    pieces = list(cut(plan, iter(sound.split(block, 1))))
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
