"""Precision, recall and equal error rate, against counts written out."""

from __future__ import annotations

import math

import numpy as np
import pytest

from polsess.metrics import Detection, count_frames, find_equal_errors


def test_frames_are_counted() -> None:
    detected, true = [True, True, True, False, False], [True, False, True, True, False]
    counts = count_frames(detected, true)
    assert counts == Detection(found=2, invented=1, missed=1)
    assert (counts.precision, counts.recall, counts.f1) == (2 / 3, 2 / 3, 2 / 3)
    both = counts + Detection(found=1, invented=0, missed=2)
    assert (both.precision, both.recall, both.f1) == (0.75, 0.5, 0.6)


def test_nothing_to_find_and_nothing_found_is_right() -> None:
    assert Detection().f1 == Detection().precision == Detection().recall == 1.0
    assert Detection(invented=3).f1 == 0.0


def rates_at(scores: np.ndarray, same: np.ndarray, threshold: float) -> tuple[float, float]:
    accepted = scores >= threshold
    return float((accepted & ~same).sum() / (~same).sum()), float((~accepted & same).sum() / same.sum())


@pytest.mark.parametrize("seed", range(5))
def test_the_equal_error_rate_is_where_both_rates_meet(seed: int) -> None:
    random = np.random.default_rng(seed)
    same = random.random(400) < 0.3
    scores = random.normal(size=400) + 1.2 * same
    pairs = [rates_at(scores, same, threshold) for threshold in [*np.sort(scores), math.inf]]
    nearest = min(pairs, key=lambda pair: abs(pair[0] - pair[1]))
    found = find_equal_errors(scores, same)
    assert found.rate == pytest.approx(sum(nearest) / 2)
    assert rates_at(scores, same, found.threshold) == pytest.approx(nearest)


def test_simple_trials() -> None:
    same = np.array([True, True, False, False])
    assert find_equal_errors([4.0, 3.0, 2.0, 1.0], same).rate == 0.0
    assert find_equal_errors([1.0, 2.0, 3.0, 4.0], same).rate == 1.0
    assert find_equal_errors([1.0, 1.0, 1.0, 1.0], same).rate == 0.5  # no threshold tells them apart
    assert math.isnan(find_equal_errors([1.0, 2.0], [True, True]).rate)
