"""Is one system better than another on the same utterances? Paired differences, their interval, their test.

The test is Wilcoxon's signed-rank test on one mean difference per cluster (a pair of speakers), since
utterances of one cluster are not independent; several comparisons are corrected after Holm (1979). Runs of
one system that differ in the training seed only are averaged per utterance, and the interval draws runs as
well as clusters, so that a lucky seed is not taken for a better system.

Shapes: R runs, N utterances, K clusters.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from polsess.metrics.summary import NUM_RESAMPLES, expanded_tail

Values = NDArray[np.float64]
_MIN_CLUSTERS = 6  # fewer signs and ranks cannot be significant at 5 %


@dataclass(frozen=True)
class Difference:
    """The second system less the first, over the utterances that both have a value for."""

    mean: float
    low: float
    """Lower end of the 95 % interval of the mean; not a number below two clusters."""
    high: float
    """Upper end."""
    p_value: float
    """Of Wilcoxon's test, two-sided, corrected if there are several comparisons."""
    count: int
    """Utterances compared."""
    num_left_out: int
    """Utterances without a value in one of the two."""
    num_clusters: int
    share_better: float
    """Of the utterances on which the second system is better."""

    @property
    def is_shown(self) -> bool:
        """Whether the difference is significant at 5 % and its interval excludes zero."""
        return self.p_value < 0.05 and (self.low > 0 or self.high < 0)

    def verdict(
        self, first: str, second: str, unit: str = "", clusters: str = "independent utterances"
    ) -> str:
        """One sentence.

        Args:
            first: Name of the first system.
            second: Name of the second.
            unit: Unit of the difference.
            clusters: Plural noun for the independent units.
        """
        if not self.is_shown:
            few = self.num_clusters < _MIN_CLUSTERS
            why = f" ({self.num_clusters} {clusters} are too few)" if few else ""
            return f"{first} and {second}: no difference shown{why}."
        better, worse = (second, first) if self.mean > 0 else (first, second)
        return f"{better} is better than {worse} by {abs(self.mean):.2f} {unit}".rstrip() + "."


def paired_difference(
    first: Values,
    second: Values,
    clusters: Sequence[Hashable],
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Difference:
    """Compare two systems on the same utterances.

    Args:
        first: ``[R, N]``, one row per training run; not a number where there is no value.
        second: ``[R', N]`` likewise.
        clusters: The group of each utterance.
        num_resamples: Bootstrap draws.
        seed: Of the draws.

    Raises:
        ValueError: If the number of utterances differs.
    """
    if not first.shape[1] == second.shape[1] == len(clusters):
        raise ValueError(
            f"paired_difference: expected values of the same utterances, got {first.shape[1]} and "
            f"{second.shape[1]} for {len(clusters)} clusters."
        )
    valid = np.isfinite(np.concatenate([first, second])).all(axis=0)
    left_out = int((~valid).sum())
    if not valid.any():
        return Difference(math.nan, math.nan, math.nan, math.nan, 0, left_out, 0, math.nan)
    labels = _numbered([label for label, kept in zip(clusters, valid, strict=True) if kept])
    first, second = first[:, valid], second[:, valid]
    differences = second.mean(0) - first.mean(0)
    low, high = _interval(first, second, labels, num_resamples, seed)
    return Difference(
        mean=float(differences.mean()),
        low=low,
        high=high,
        p_value=signed_rank_test(np.bincount(labels, weights=differences) / np.bincount(labels)),
        count=len(differences),
        num_left_out=left_out,
        num_clusters=int(labels.max()) + 1,
        share_better=float(np.mean(differences > 0)),
    )


def signed_rank_test(differences: Values) -> float:
    """The two-sided p-value of Wilcoxon's signed-rank test; 1 if all differences are zero."""
    from scipy import stats

    if not differences.any():
        return 1.0
    return float(stats.wilcoxon(differences).pvalue)


def correct_after_holm(differences: Sequence[Difference]) -> list[Difference]:
    """The same with p-values that hold for all comparisons together."""
    p_values = holm([each.p_value for each in differences])
    return [replace(each, p_value=value) for each, value in zip(differences, p_values, strict=True)]


def holm(p_values: Sequence[float]) -> list[float]:
    """Step-down adjusted p-values; those that are not a number are left out of the count."""
    order = sorted((value, index) for index, value in enumerate(p_values) if not math.isnan(value))
    adjusted = [math.nan] * len(p_values)
    largest = 0.0
    for rank, (value, index) in enumerate(order):
        largest = max(largest, min(1.0, value * (len(order) - rank)))
        adjusted[index] = largest
    return adjusted


def _numbered(labels: Sequence[Hashable]) -> NDArray[np.int64]:
    numbers = {label: index for index, label in enumerate(dict.fromkeys(labels))}
    return np.array([numbers[label] for label in labels], dtype=np.int64)


def _interval(
    first: Values, second: Values, labels: NDArray[np.int64], num_resamples: int, seed: int
) -> tuple[float, float]:
    num_clusters = int(labels.max()) + 1
    if num_clusters < 2:
        return math.nan, math.nan
    random = np.random.default_rng(seed)
    sizes = np.bincount(labels).astype(np.float64)
    drawn = random.multinomial(num_clusters, np.full(num_clusters, 1 / num_clusters), num_resamples)
    means = [_resampled_mean(runs, labels, drawn, sizes, random) for runs in (first, second)]
    tail = expanded_tail(0.025, num_clusters)
    low, high = np.quantile(means[1] - means[0], [tail, 1 - tail])
    return float(low), float(high)


def _resampled_mean(
    runs: Values,
    labels: NDArray[np.int64],
    drawn: NDArray[np.int64],
    sizes: Values,
    random: np.random.Generator,
) -> Values:
    """Means over drawn clusters and drawn runs, one per resample."""
    sums = np.stack([np.bincount(labels, weights=run) for run in runs])  # [R, K]
    by_run = drawn @ sums.T / (drawn @ sizes)[:, None]  # [resamples, R]
    centre = by_run.mean(1)
    num_runs = len(runs)
    if num_runs == 1:
        return centre
    chosen = random.integers(num_runs, size=by_run.shape)
    of_chosen = np.take_along_axis(by_run, chosen, 1).mean(1)
    # Few runs vary too little among themselves; the factor makes their variance unbiased.
    return centre + math.sqrt(num_runs / (num_runs - 1)) * (of_chosen - centre)
