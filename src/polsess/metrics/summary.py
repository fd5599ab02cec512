"""Mean, median, interval and failures of a metric over a test set.

Shapes: N utterances.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from polsess.metrics.sampling_error import Clusters, Values, error_of_runs, sampling_error

_FEW_DEGREES = 8.0


@dataclass(frozen=True)
class Summary:
    """One metric over a set of utterances."""

    mean: float
    median: float
    low: float
    """Lower end of the interval of the mean; not a number where there are too few clusters."""
    high: float
    """Upper end."""
    count: int
    """Utterances with a value."""
    failures: Mapping[str, int] = field(default_factory=dict)
    """Utterances without a value, by reason."""
    num_clusters: int = 0
    """Independent clusters of the utterances with a value, e.g. speakers."""
    degrees: float = math.nan
    """Degrees of freedom of the interval; not a number where there is none."""

    @property
    def num_failures(self) -> int:
        """Utterances without a value."""
        return sum(self.failures.values())

    @property
    def caution(self) -> str:
        """Limits of the interval in words; empty if there are none."""
        if not self.count:
            return ""
        if math.isnan(self.low):
            return f"no interval, too few independent speakers or utterances ({self.num_clusters})"
        if self.degrees < _FEW_DEGREES:
            return (
                f"a rough interval, {self.num_clusters} independent speakers or utterances give "
                f"{self.degrees:.1f} degrees of freedom"
            )
        return ""


def summarise(
    values: Sequence[float],
    clusters: Clusters | None = None,
    reasons: Sequence[str] | None = None,
    *,
    confidence: float = 0.95,
) -> Summary:
    """Summarise one metric over utterances.

    Args:
        values: One per utterance, not a number where there is none, N.
        clusters: The clusters that each utterance belongs to, e.g. its speakers; None if all are independent.
        reasons: Reasons why values are not numbers.
        confidence: Coverage of the interval.

    Raises:
        ValueError: If the lengths differ.
    """
    array = np.asarray(values, dtype=np.float64)
    groups: Clusters = [(index,) for index in range(len(array))] if clusters is None else clusters
    causes = [""] * len(array) if reasons is None else list(reasons)
    if not len(array) == len(groups) == len(causes):
        raise ValueError(
            f"summarise: expected as many clusters and reasons as values, got {len(array)} values, "
            f"{len(groups)} clusters and {len(causes)} reasons."
        )
    valid = np.isfinite(array)
    failures = Counter(causes[index] or "unknown" for index in np.flatnonzero(~valid))
    kept = array[valid]
    if not len(kept):
        return Summary(math.nan, math.nan, math.nan, math.nan, 0, dict(failures))
    error = sampling_error(kept, [each for each, is_valid in zip(groups, valid, strict=True) if is_valid])
    mean = float(kept.mean())
    return Summary(
        mean,
        float(np.median(kept)),
        *error.interval(mean, confidence),
        len(kept),
        dict(failures),
        error.num_clusters,
        error.degrees,
    )


def summarise_runs(values: Values, clusters: Clusters) -> Summary:
    """Summarise the training runs of one system; the interval covers other seeds too if there are several.

    Args:
        values: ``[R, N]``, one row per run; utterances without a value in one of the runs are left out.
        clusters: The clusters that each utterance belongs to.
    """
    valid = np.isfinite(values.sum(0))
    summary = summarise(np.where(valid, values.mean(0), math.nan).tolist(), clusters)
    if len(values) < 2 or not valid.any():
        return summary
    kept = [clusters[index] for index in np.flatnonzero(valid).tolist()]
    error = sampling_error(values[:, valid].mean(0), kept) + error_of_runs(values[:, valid])
    low, high = error.interval(summary.mean)
    return replace(summary, low=low, high=high, degrees=error.degrees)


def failure_rate(values: Sequence[float], threshold_db: float) -> float:
    """The share of the utterances with a value that lie below a threshold."""
    array = np.asarray(values, dtype=np.float64)
    valid = array[np.isfinite(array)]
    return float(np.mean(valid < threshold_db)) if len(valid) else math.nan
