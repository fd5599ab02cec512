"""The sampling error of a mean over utterances whose speakers recur in other utterances.

Two utterances are dependent if they share a speaker. The variance of the mean is the dyadic-robust one: the
sum of the products of residuals over all pairs of utterances that share a speaker (Aronow, Samii, Assenova
2015, https://doi.org/10.1093/pan/mpv018), which is the ordinary cluster-robust variance where every utterance
has one speaker, and the ordinary variance where no speaker recurs.

Small samples: let s be the share of dependent pairs among all pairs of utterances. Where every speaker meets
every other, residuals around the estimated mean give 1 - s of the true sum, so it is divided by that; for K
equal clusters this is the usual K / (K - 1). Student's t has G (1 - s) degrees of freedom, K - 1 for K equal
clusters, where G = (sum n)^2 / sum n^2 is the effective number of speakers with n utterances each. Speakers
that always occur together count as one.

Shapes: N utterances.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Clusters = Sequence[Collection[Hashable]]
"""For each utterance the clusters that it belongs to, e.g. its speakers."""
_MIN_DEGREES = 1.0
"""With fewer a 95 % interval would be wider than 12 standard errors: none is given."""


@dataclass(frozen=True)
class SamplingError:
    """Uncertainty of a mean as an estimate for other speakers and utterances."""

    variance: float
    """Variance of the mean; not a number where it cannot be estimated."""
    degrees: float
    """Degrees of freedom of Student's t."""
    num_clusters: int
    """Independent clusters; those that always occur together count as one."""

    def interval(self, mean: float, confidence: float = 0.95) -> tuple[float, float]:
        """The interval around a mean; not numbers where the variance cannot be estimated."""
        if math.isnan(self.variance):
            return math.nan, math.nan
        from scipy import stats  # a third of a second to import

        reach = float(stats.t.ppf((1 + confidence) / 2, self.degrees)) * math.sqrt(self.variance)
        return mean - reach, mean + reach

    def p_value(self, mean: float) -> float:
        """The two-sided p-value of a mean of zero; not a number where the variance cannot be estimated."""
        if math.isnan(self.variance) or (mean == 0 and self.variance == 0):
            return math.nan if math.isnan(self.variance) else 1.0
        if self.variance == 0:
            return 0.0
        from scipy import stats

        return float(2 * stats.t.sf(abs(mean) / math.sqrt(self.variance), self.degrees))

    def __add__(self, other: SamplingError) -> SamplingError:
        """The error of a sum of independent means (degrees of freedom after Welch and Satterthwaite)."""
        variance = self.variance + other.variance
        spread = self.variance**2 / self.degrees + other.variance**2 / other.degrees
        degrees = variance**2 / spread if spread else min(self.degrees, other.degrees)
        return SamplingError(variance, degrees, self.num_clusters)


def sampling_error(values: Values, clusters: Clusters) -> SamplingError:
    """The sampling error of the mean of values.

    Args:
        values: ``[N]``, finite, N at least 1.
        clusters: The clusters of each value, at least one.
    """
    members = _merge_inseparable(clusters)
    counts = np.bincount([index for each in members for index in each]).astype(np.float64)
    num_clusters = len(counts)
    residuals = values - values.mean()
    total = float(len(values)) ** 2
    dependent = _sum_over_dependent(np.ones(len(values)), members) / total
    degrees = float(counts.sum() ** 2 / (counts**2).sum()) * (1 - dependent)
    if degrees < _MIN_DEGREES:
        return SamplingError(math.nan, math.nan, num_clusters)
    variance = _sum_over_dependent(residuals, members) / total / (1 - dependent)
    # The sum is not positive for every sample; that over utterances of exactly the same clusters is.
    together = [(index,) for index in _number([tuple(each) for each in members])]
    same = _sum_over_dependent(np.ones(len(values)), together) / total
    floor = _sum_over_dependent(residuals, together) / total / (1 - same)
    return SamplingError(max(variance, floor), degrees, num_clusters)


def error_of_runs(values: Values) -> SamplingError:
    """The error of the mean of training runs ``[R, N]``, R at least 2, as an estimate for other seeds."""
    return SamplingError(float(values.mean(1).var(ddof=1)) / len(values), len(values) - 1, len(values))


def _merge_inseparable(clusters: Clusters) -> list[tuple[int, ...]]:
    """The clusters of each utterance as numbers; clusters that have all utterances in common are one."""
    utterances: dict[Hashable, list[int]] = {}
    for index, names in enumerate(clusters):
        for name in dict.fromkeys(names):
            utterances.setdefault(name, []).append(index)
    number_of = dict(zip(utterances, _number([tuple(each) for each in utterances.values()]), strict=True))
    return [tuple(sorted({number_of[name] for name in names})) for names in clusters]


def _number(keys: Sequence[Hashable]) -> list[int]:
    numbers: dict[Hashable, int] = {}
    return [numbers.setdefault(key, len(numbers)) for key in keys]


def _sum_over_dependent(values: Values, members: Sequence[tuple[int, ...]]) -> float:
    """The sum of the products of values over all ordered pairs of utterances that share a cluster.

    By inclusion and exclusion: squared sums over the utterances of each cluster, less those over the
    utterances of each pair of clusters, and so on (Cameron, Gelbach, Miller 2011).
    """
    sums: dict[tuple[int, ...], float] = {}
    for value, indices in zip(values.tolist(), members, strict=True):
        for size in range(1, len(indices) + 1):
            for subset in combinations(indices, size):
                sums[subset] = sums.get(subset, 0.0) + value
    return math.fsum(each * each if len(subset) % 2 else -each * each for subset, each in sums.items())
