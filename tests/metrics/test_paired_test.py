from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from polsess.metrics import correct_after_holm, paired_difference
from polsess.metrics.paired_test import holm


def systems(
    random: np.random.Generator, effect: float, num_clusters: int = 100, size: int = 3, num_runs: int = 1
) -> tuple[NDArray[np.float64], NDArray[np.float64], list[tuple[int]]]:
    """Scores of two systems on the same utterances: hard and easy ones, and pairs that suit one system."""
    clusters = np.repeat(np.arange(num_clusters), size)
    difficulty = random.normal(10, 3, len(clusters))
    liking = random.normal(0, 0.5, num_clusters)[clusters]
    noise = random.normal(0, 0.5, (2 * num_runs, len(clusters)))
    first = difficulty + noise[:num_runs]
    second = difficulty + liking + effect + noise[num_runs:]
    return first, second, [(int(each),) for each in clusters]


def test_a_planted_difference_is_found_and_a_planted_zero_is_not() -> None:
    random = np.random.default_rng(0)
    found = {0.0: 0, 0.3: 0}
    for effect in found:
        for _ in range(100):
            result = paired_difference(*systems(random, effect))
            found[effect] += result.is_shown
    assert found[0.3] >= 95
    assert found[0.0] <= 10


def test_the_difference_and_who_is_better() -> None:
    first, second, clusters = systems(np.random.default_rng(1), 0.3)
    result = paired_difference(first, second, clusters)
    differences = (second - first)[0]
    assert result.mean == pytest.approx(differences.mean())
    assert result.low < differences.mean() < result.high
    assert result.share_better == np.mean(differences > 0)
    assert (result.count, result.num_clusters, result.num_left_out) == (300, 100, 0)
    means = differences.reshape(100, 3).mean(1)
    assert result.p_value == pytest.approx(stats.ttest_1samp(means, 0).pvalue)
    turned = paired_difference(second, first, clusters)
    assert (turned.mean, turned.p_value) == pytest.approx((-result.mean, result.p_value))
    assert result.verdict("one", "two").startswith("two is better than one")
    errors = paired_difference(first, second, clusters, lower_is_better=True)
    assert errors.share_better == np.mean(differences < 0)
    assert errors.verdict("one", "two").startswith("one is better than two")


def test_the_interval_covers_the_truth() -> None:
    random = np.random.default_rng(2)
    covered = 0
    for _ in range(400):
        result = paired_difference(*systems(random, 0.3, num_clusters=25))
        covered += result.low <= 0.3 <= result.high
    assert 0.93 <= covered / 400 <= 0.97


def test_seeds_that_differ_widen_the_interval() -> None:
    random = np.random.default_rng(3)
    first, second, clusters = systems(random, 0.3, num_runs=3)
    calm = paired_difference(first, second, clusters)
    luck = np.array([[-0.5], [0.0], [0.5]])
    lucky = paired_difference(first + luck, second - luck, clusters)
    assert lucky.mean == pytest.approx(calm.mean)
    assert lucky.high - lucky.low > 3 * (calm.high - calm.low)
    assert calm.is_shown
    assert not lucky.is_shown


def test_the_spread_of_few_seeds_is_not_underrated() -> None:
    random = np.random.default_rng(4)
    clusters = [(index,) for index in range(40)]
    covered = 0
    for _ in range(400):
        runs = np.repeat(random.normal(0, 1, (3, 1)), 40, 1)
        result = paired_difference(np.zeros((1, 40)), runs, clusters)
        covered += result.low <= 0 <= result.high
    assert 0.92 <= covered / 400 <= 0.98  # drawing the three runs anew would cover 0.8


def test_missing_values_are_left_out_in_pairs() -> None:
    first, second, clusters = systems(np.random.default_rng(5), 0.3)
    first[0, 0] = second[0, 5] = math.nan
    result = paired_difference(first, second, clusters)
    assert (result.count, result.num_left_out) == (298, 2)
    empty = paired_difference(np.full((1, 3), math.nan), np.zeros((1, 3)), [(1,), (2,), (3,)])
    assert (empty.count, empty.num_left_out) == (0, 3)
    assert not empty.is_shown


def test_equal_systems_and_one_cluster_show_nothing() -> None:
    values = np.random.default_rng(6).normal(size=(1, 10))
    same = paired_difference(values, values, [(index,) for index in range(10)])
    assert (same.p_value, same.is_shown) == (1.0, False)
    one = paired_difference(values, values + 1, [("a",)] * 10)
    assert math.isnan(one.low)
    assert not one.is_shown


def test_utterances_must_agree() -> None:
    with pytest.raises(ValueError, match="the same utterances, got 3 and 4"):
        paired_difference(np.zeros((1, 3)), np.zeros((1, 4)), [(1,), (2,), (3,)])


def test_holm_steps_down() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
    mixed = holm([math.nan, 0.02])
    assert math.isnan(mixed[0])
    assert mixed[1] == 0.02


def test_corrected_comparisons() -> None:
    result = paired_difference(*systems(np.random.default_rng(7), 0.3))
    both = correct_after_holm([result, result])
    assert both[0].p_value == both[1].p_value == 2 * result.p_value
