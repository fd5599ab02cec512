from __future__ import annotations

import math

import pytest

from polsess.metrics import failure_rate, summarise


def test_mean_median_count_and_failures() -> None:
    summary = summarise([1.0, 2.0, 9.0, math.nan, math.nan], reasons=["", "", "", "silent", ""])
    assert (summary.mean, summary.median, summary.count, summary.num_clusters) == (4.0, 2.0, 3, 3)
    assert summary.failures == {"silent": 1, "unknown": 1}
    assert summary.num_failures == 2
    assert summary.low < 4 < summary.high


def test_nothing_to_summarise() -> None:
    summary = summarise([math.nan], reasons=["silent"])
    assert summary.count == 0
    assert math.isnan(summary.mean)
    assert math.isnan(summary.low)
    assert summarise([]).num_failures == 0


def test_one_cluster_has_no_interval() -> None:
    summary = summarise([1.0, 2.0, 3.0], clusters=[("a",)] * 3)
    assert summary.mean == 2.0
    assert math.isnan(summary.low)
    assert "too few independent speakers or utterances (1)" in summary.caution


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="as many clusters and reasons as values"):
        summarise([1.0, 2.0], clusters=[("a",)])


def test_failure_rate_counts_utterances_with_a_value() -> None:
    assert failure_rate([-1.0, 1.0, 6.0, math.nan], 0) == pytest.approx(1 / 3)
    assert failure_rate([-1.0, 1.0, 6.0, math.nan], 5) == pytest.approx(2 / 3)
    assert math.isnan(failure_rate([math.nan], 0))


def test_few_speakers_make_a_rough_interval() -> None:
    pairs = [(one, other) for one in range(6) for other in range(one)]
    summary = summarise([float(index % 4) for index in range(len(pairs))], pairs)
    assert summary.num_clusters == 6
    assert summary.caution.startswith("a rough interval, 6 independent speakers or utterances give 2.4")
    assert summarise([1.0, 2.0, 3.0, 2.0, 1.0, 4.0, 2.0, 3.0, 1.0, 2.0]).caution == ""
    assert summarise([]).caution == ""
