"""Paired test of two systems on the same utterances: mean difference, interval, p-value.

Interval and test rest on one sampling error, which respects that speakers recur (``sampling_error``); several
comparisons are corrected after Holm (1979). Runs of one system that differ in the training seed only are
averaged per utterance, and the variance of their means is added, so that a lucky seed is not taken for a
better system.

Shapes: R runs, N utterances.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from polsess.metrics.sampling_error import Clusters, Values, error_of_runs, sampling_error

MIN_CLUSTERS = 6
"""A mean of fewer independent units need not be near normal: no difference counts as shown."""


@dataclass(frozen=True)
class Difference:
    """The second system minus the first, over the utterances that both have a value for."""

    mean: float
    low: float
    """Lower end of the 95 % interval of the mean; not a number where there are too few clusters."""
    high: float
    """Upper end."""
    p_value: float
    """Two-sided, corrected if there are several comparisons."""
    count: int
    """Utterances compared."""
    num_left_out: int
    """Utterances without a value in one of the two."""
    num_clusters: int
    """Independent clusters, e.g. speakers."""
    share_better: float
    """Share of the utterances on which the second system is better."""
    lower_is_better: bool = False
    """Whether a smaller value of the metric is the better one."""

    @property
    def is_shown(self) -> bool:
        """Whether the difference is significant at 5 % and its interval excludes zero."""
        enough = self.num_clusters >= MIN_CLUSTERS
        return enough and self.p_value < 0.05 and (self.low > 0 or self.high < 0)

    def verdict(
        self, first: str, second: str, unit: str = "", clusters: str = "independent speakers or utterances"
    ) -> str:
        """One sentence.

        Args:
            first: Name of the first system.
            second: Name of the second.
            unit: Unit of the difference.
            clusters: Plural noun for the independent units.
        """
        if not self.is_shown:
            few = self.num_clusters < MIN_CLUSTERS
            why = f" (too few {clusters}: {self.num_clusters})" if few else ""
            return f"{first} and {second}: no difference shown{why}."
        better, worse = (second, first) if (self.mean > 0) != self.lower_is_better else (first, second)
        return f"{better} is better than {worse} by {abs(self.mean):.2f} {unit}".rstrip() + "."


def paired_difference(
    first: Values, second: Values, clusters: Clusters, *, lower_is_better: bool = False
) -> Difference:
    """Compare two systems on the same utterances.

    Args:
        first: ``[R, N]``, one row per training run; not a number where there is no value.
        second: ``[R', N]`` likewise.
        clusters: The clusters that each utterance belongs to, e.g. its speakers.
        lower_is_better: Whether a smaller value is the better one.

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
    first, second = first[:, valid], second[:, valid]
    differences = second.mean(0) - first.mean(0)
    error = sampling_error(differences, [each for each, kept in zip(clusters, valid, strict=True) if kept])
    for runs in (first, second):
        if len(runs) > 1:
            error = error + error_of_runs(runs)
    mean = float(differences.mean())
    return Difference(
        mean,
        *error.interval(mean),
        p_value=error.p_value(mean),
        count=len(differences),
        num_left_out=left_out,
        num_clusters=error.num_clusters,
        share_better=float(np.mean(differences < 0 if lower_is_better else differences > 0)),
        lower_is_better=lower_is_better,
    )


def correct_after_holm(differences: Sequence[Difference]) -> list[Difference]:
    """The same differences with p-values corrected for all comparisons together."""
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
