"""Results of a listening test: screening, means with intervals, paired tests.

Listeners are the independent units of intervals and tests (``polsess.metrics.sampling_error``). The results
hold for other listeners of the same clips.

Shapes: N ratings.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from polsess.listening.answers import Rating
from polsess.listening.key import Key, Kind, Role
from polsess.metrics import Difference, Summary, correct_after_holm, paired_difference, summarise
from polsess.schema import ConfigError

MAX_FAILED_SHARE = 0.15
MIN_REFERENCE_RATING = 90
_CHECKS = {
    Kind.MUSHRA: f"rated the hidden reference below {MIN_REFERENCE_RATING}",
    Kind.AB: "did not prefer the reference to the mixture",
    Kind.P835: "did not rate the reference above the mixture",
}


@dataclass(frozen=True)
class Screening:
    """Answers of one listener to the trials with a known right answer."""

    listener: str
    num_failed: int
    num_checks: int
    check: str
    """Definition of a failed check."""

    @property
    def is_excluded(self) -> bool:
        """More than 15 % failed (BS.1534-3, post-screening)."""
        return self.num_failed > MAX_FAILED_SHARE * self.num_checks

    @property
    def reason(self) -> str:
        """Reason for an exclusion, in words."""
        return f"{self.check} in {self.num_failed} of {self.num_checks} checks"


@dataclass(frozen=True)
class Pair:
    """Two conditions on one scale."""

    scale: str
    first: str
    second: str
    difference: Difference
    """The second minus the first."""
    counts: tuple[int, int, int]
    """Answers in which the first is higher, both are equal, the second is higher."""

    @property
    def verdict(self) -> str:
        """One sentence."""
        return self.difference.verdict(self.first, self.second, clusters="listeners")


@dataclass(frozen=True)
class Analysis:
    """Results of a test."""

    key: Key
    ratings: tuple[Rating, ...]
    """Ratings of all listeners, the excluded too."""
    screening: tuple[Screening, ...]
    summaries: dict[tuple[str, str], Summary]
    """Summaries by scale and condition, without the excluded; clusters are listeners."""
    pairs: tuple[Pair, ...]
    """Pairs of systems and mixture, corrected after Holm within each scale."""

    @property
    def excluded(self) -> frozenset[str]:
        """Listeners that do not count."""
        return frozenset(each.listener for each in self.screening if each.is_excluded)

    @property
    def counted(self) -> list[Rating]:
        """Ratings of the listeners that count, without controls."""
        return _counted(self.ratings, self.excluded)


def analyse(ratings: Sequence[Rating], key: Key) -> Analysis:
    """Screen the listeners and compare the systems.

    Raises:
        ConfigError: If no listener is left.
    """
    screening = tuple(
        _screen(listener, ratings, key.kind) for listener in _unique(r.listener for r in ratings)
    )
    excluded = {each.listener for each in screening if each.is_excluded}
    counted = _counted(ratings, excluded)
    if not counted:
        reasons = "; ".join(f"{each.listener} {each.reason}" for each in screening)
        raise ConfigError(f"answers: no listener passes the screening: {reasons or 'no ratings'}.")
    summaries = {}
    for scale in _unique(each.scale for each in counted):
        for condition in key.conditions:
            found = [each for each in counted if (each.scale, each.condition) == (scale, condition)]
            if found:
                values, listeners = [each.value for each in found], [(each.listener,) for each in found]
                summaries[scale, condition] = summarise(values, listeners)
    return Analysis(key, tuple(ratings), screening, summaries, tuple(_pairs(counted, summaries, key)))


def _counted(ratings: Sequence[Rating], excluded: frozenset[str] | set[str]) -> list[Rating]:
    return [each for each in ratings if each.listener not in excluded and not each.control]


def _screen(listener: str, ratings: Sequence[Rating], kind: Kind) -> Screening:
    mine = [each for each in ratings if each.listener == listener]
    if kind is Kind.MUSHRA:
        failed = [each.value < MIN_REFERENCE_RATING for each in mine if each.role is Role.REFERENCE]
    else:
        scale = "preference" if kind is Kind.AB else "overall"
        known = [each for each in mine if each.scale == scale and (each.control or kind is Kind.P835)]
        failed = [
            best.value <= other.value
            for best in known
            if best.role is Role.REFERENCE
            for other in known
            if other.unit == best.unit and other.condition == "mixture"
        ]
    return Screening(listener, sum(failed), len(failed), _CHECKS[kind])


def _pairs(counted: list[Rating], summaries: dict[tuple[str, str], Summary], key: Key) -> list[Pair]:
    systems = [name for name, role in key.conditions.items() if role is Role.SYSTEM]
    pairs = []
    for scale in _unique(scale for scale, _ in summaries):
        table = {
            (each.condition, each.listener, each.unit): each.value for each in counted if each.scale == scale
        }
        found = [
            pair
            for first, second in combinations(systems, 2)
            if (pair := _pair(scale, first, second, table)) is not None
        ]
        corrected = correct_after_holm([pair.difference for pair in found])
        pairs += [
            Pair(scale, pair.first, pair.second, difference, pair.counts)
            for pair, difference in zip(found, corrected, strict=True)
        ]
    return pairs


def _pair(scale: str, first: str, second: str, table: dict[tuple[str, str, str], float]) -> Pair | None:
    places = [(who, unit) for name, who, unit in table if name == first and (second, who, unit) in table]
    if not places:
        return None
    one, other = (np.array([[table[name, *place] for place in places]]) for name in (first, second))
    difference = paired_difference(one, other, [(listener,) for listener, _ in places])
    counts = int((one > other).sum()), int((one == other).sum()), int((one < other).sum())
    return Pair(scale, first, second, difference, counts)


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
