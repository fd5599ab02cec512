from __future__ import annotations

import os

import pytest

from polsess.processes import map_parallel, num_processors


def test_at_least_one_processor_is_there() -> None:
    assert 1 <= num_processors() <= (os.cpu_count() or 1)


@pytest.mark.parametrize("num_workers", [0, 1, 2])
def test_results_come_in_the_order_of_the_items(num_workers: int) -> None:
    assert list(map_parallel(abs, [-3, 1, -2], num_workers, chunksize=2)) == [3, 1, 2]
