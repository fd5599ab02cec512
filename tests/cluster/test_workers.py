"""Which items are handed out together, and that none is lost or doubled whatever becomes of its worker."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from polsess.cluster.workers import Cluster, Failed, Prepare, group_by_length


def test_long_items_come_first_and_short_ones_together() -> None:
    items = [5, 400, 30, 61, 29, 2]
    groups = group_by_length(items, float, 60.0)
    assert groups == [[400], [61], [30, 29], [5, 2]]
    assert group_by_length([], float, 60.0) == []


class Deadly(Cluster):
    """A cluster without Ray on which groups with a 7 give nothing, in the order that it likes."""

    def _results(
        self, prepare: Prepare, groups: Sequence[Sequence[Any]], in_order: bool
    ) -> Iterator[tuple[int, list[Any | Failed]]]:
        work = prepare(self.device)
        numbers = [number for number, group in enumerate(groups) if 7 not in group]
        for number in numbers if in_order else reversed(numbers):
            yield number, [work(item) for item in groups[number]]
            yield number, [work(item) for item in groups[number]]  # a retry that had ended well before


def double(device: str) -> Any:
    assert device == "cpu"
    return lambda item: 2 * item


def test_one_item_takes_no_other_with_it_and_nothing_comes_twice() -> None:
    found = list(Deadly("cpu").map(double, [[1, 2], [6, 7, 8], [9]]))
    good = {item: result for item, result in found if not isinstance(result, Failed)}
    assert good == {1: 2, 2: 4, 6: 12, 8: 16, 9: 18}
    assert [item for item, result in found if isinstance(result, Failed)] == [7]
    assert len(found) == 6


@pytest.mark.parametrize("last", [[], [[9]]])
def test_in_order_the_failed_one_has_its_place(last: list[list[int]]) -> None:
    found = list(Deadly("cpu").map(double, [[5], [7], *last], in_order=True))
    assert [item for item, _ in found] == [5, 7, *(item for group in last for item in group)]
    assert isinstance(found[1][1], Failed)
