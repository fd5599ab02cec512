"""Coverage of the intervals by simulation, in the layouts that test sets have."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from polsess.metrics.sampling_error import sampling_error

Layout = Callable[[np.random.Generator], list[tuple[int, ...]]]


def recurring(num_speakers: int, count: int, size: int = 2) -> Layout:
    """Utterances of speakers drawn at random, as test sets are mixed."""

    def draw(random: np.random.Generator) -> list[tuple[int, ...]]:
        return [tuple(random.choice(num_speakers, size, replace=False).tolist()) for _ in range(count)]

    return draw


def disjoint(num_pairs: int, count: int) -> Layout:
    return lambda _: [(2 * pair, 2 * pair + 1) for pair in range(num_pairs) for _ in range(count)]


def uneven(num_speakers: int) -> Layout:
    return lambda random: [
        (speaker,) for speaker in range(num_speakers) for _ in range(random.integers(1, 9))
    ]


def cycle(num_speakers: int) -> Layout:
    return lambda _: [(speaker, (speaker + 1) % num_speakers) for speaker in range(num_speakers)]


def simulate(
    layout: Layout, speaker_db: float, residual_db: float, seed: int = 0, trials: int = 500
) -> tuple[float, float]:
    """The shares of trials whose interval covers the true mean, and whose interval is refused."""
    random = np.random.default_rng(seed)
    covered = refused = 0
    for _ in range(trials):
        clusters = layout(random)
        effects = random.normal(0, speaker_db, 100)
        values = np.array([effects[list(each)].sum() for each in clusters])
        values += random.normal(0, residual_db, len(values))
        low, high = sampling_error(values, clusters).interval(float(values.mean()))
        refused += math.isnan(low)
        covered += low <= 0 <= high
    return covered / trials, refused / trials


@pytest.mark.slow
def test_thirty_speakers_in_three_hundred_pairs() -> None:
    """The layout of the published scores, with the variances that were measured there."""
    covered, refused = simulate(recurring(30, 300), 1.05, 3.65, trials=4000)
    assert refused == 0
    assert 0.93 <= covered <= 0.97


@pytest.mark.parametrize(
    ("layout", "lowest", "highest"),
    [
        (recurring(30, 100), 0.92, 0.97),
        (recurring(20, 60, size=3), 0.915, 0.975),
        (cycle(30), 0.92, 0.98),
        (disjoint(12, 4), 0.92, 0.98),
        (uneven(25), 0.92, 0.98),
        (recurring(10, 45), 0.93, 1.0),
        (recurring(6, 30), 0.94, 1.0),
        (recurring(5, 30), 0.97, 1.0),
    ],
)
def test_intervals_cover_the_truth(layout: Layout, lowest: float, highest: float) -> None:
    covered, refused = simulate(layout, 1.05, 3.65, seed=3, trials=1000)
    assert refused < 0.1
    assert lowest <= covered / (1 - refused) <= highest


@pytest.mark.parametrize("layout", [recurring(2, 20), recurring(3, 20), recurring(4, 30), disjoint(1, 9)])
def test_too_few_speakers_give_no_interval(layout: Layout) -> None:
    _, refused = simulate(layout, 1.05, 3.65, trials=20)
    assert refused >= 0.9


def test_without_recurrence_it_is_the_usual_interval() -> None:
    values = np.random.default_rng(1).normal(3, 2, 12)
    error = sampling_error(values, [(index,) for index in range(12)])
    assert error.variance == pytest.approx(values.var(ddof=1) / 12)
    assert error.degrees == pytest.approx(11)
    assert error.num_clusters == 12
    expected = stats.t.interval(0.95, 11, values.mean(), stats.sem(values))
    assert error.interval(float(values.mean())) == pytest.approx(expected)
    assert error.p_value(float(values.mean())) == pytest.approx(stats.ttest_1samp(values, 0).pvalue)


def test_dependent_pairs_are_summed() -> None:
    """Against the definition: every ordered pair of utterances that shares a speaker."""
    random = np.random.default_rng(2)
    clusters = recurring(9, 40, size=3)(random)
    values = random.normal(0, 1, 40) + np.array([sum(each) for each in clusters])
    residuals = values - values.mean()
    shared = np.array([[bool({*one} & {*other}) for other in clusters] for one in clusters])
    expected = residuals @ shared @ residuals / 40**2 / (1 - shared.mean())
    assert sampling_error(values, clusters).variance == pytest.approx(expected)


def test_equal_values_have_no_error() -> None:
    error = sampling_error(np.full(5, 2.0), [(index,) for index in range(5)])
    assert error.interval(2.0) == (2.0, 2.0)
    assert (error.p_value(0.0), error.p_value(2.0)) == (1.0, 0.0)
