from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from polsess.metrics import bootstrap_interval, failure_rate, summarise
from polsess.metrics.summary import student_quantile


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
    summary = summarise([1.0, 2.0, 3.0], clusters=["a", "a", "a"])
    assert summary.mean == 2.0
    assert math.isnan(summary.low)


def test_the_seed_decides_the_draws() -> None:
    values = np.random.default_rng(0).normal(size=30)
    assert bootstrap_interval(values, range(30), seed=1) == bootstrap_interval(values, range(30), seed=1)
    assert bootstrap_interval(values, range(30), seed=1) != bootstrap_interval(values, range(30), seed=2)


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="as many clusters and reasons as values"):
        summarise([1.0, 2.0], clusters=["a"])


def test_failure_rate_counts_utterances_with_a_value() -> None:
    assert failure_rate([-1.0, 1.0, 6.0, math.nan], 0) == pytest.approx(1 / 3)
    assert failure_rate([-1.0, 1.0, 6.0, math.nan], 5) == pytest.approx(2 / 3)
    assert math.isnan(failure_rate([math.nan], 0))


@pytest.mark.parametrize("degrees", [5, 9, 30, 1000])
@pytest.mark.parametrize("probability", [0.025, 0.005, 0.95])
def test_student_quantile(probability: float, degrees: int) -> None:
    exact = stats.t.ppf(probability, degrees)
    assert student_quantile(probability, degrees) == pytest.approx(exact, abs=5e-3 if degrees == 5 else 1e-3)


@pytest.mark.parametrize("clustered", [False, True], ids=["independent", "clustered"])
def test_the_interval_covers_the_truth(clustered: bool) -> None:
    random = np.random.default_rng(7)
    num_trials, num_clusters = 600, 25
    covered = 0
    for trial in range(num_trials):
        sizes = random.integers(1, 9, num_clusters) if clustered else np.ones(num_clusters, dtype=int)
        labels = np.repeat(np.arange(num_clusters), sizes)
        effect = random.normal(0, 2.0, num_clusters)[labels] if clustered else 0
        values = 10 + effect + random.normal(0, 1.5, len(labels))
        low, high = bootstrap_interval(values, labels.tolist(), num_resamples=1000, seed=trial)
        covered += low <= 10 <= high
    assert 0.93 <= covered / num_trials <= 0.97
    if clustered:  # drawing utterances one by one would claim far too much
        alone = bootstrap_interval(values, range(len(values)), num_resamples=1000)
        assert alone[1] - alone[0] < 0.7 * (high - low)
