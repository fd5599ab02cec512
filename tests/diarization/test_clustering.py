"""Clustering and assignment without scipy give what scipy gives."""

from __future__ import annotations

import numpy as np
import pytest

from polsess.diarization.assignment import _best_pairs
from polsess.diarization.clustering import join_by_average


def test_average_linkage_is_that_of_scipy() -> None:
    hierarchy = pytest.importorskip("scipy.cluster.hierarchy")
    random = np.random.default_rng(0)
    for count, thresholds in ((1, (0.3,)), (2, (0.3,)), (40, (0.5, 0.2)), (120, (0.8, 0.5, 0.2))):
        centres = random.standard_normal((5, 16))
        exact = centres[random.integers(5, size=count)] + 0.8 * random.standard_normal((count, 16))
        points = exact.astype(np.float32)
        for threshold, found in zip(thresholds, join_by_average(points, thresholds), strict=True):
            if count > 1:
                tree = hierarchy.linkage(points.astype(np.float64), "average", metric="cosine")
                expected = hierarchy.fcluster(tree, 1 - threshold, "distance")
                assert ((found[:, None] == found) == (expected[:, None] == expected)).all()
            assert sorted(set(found.tolist())) == list(range(found.max() + 1))


def test_pairs_are_those_of_scipy() -> None:
    optimize = pytest.importorskip("scipy.optimize")
    random = np.random.default_rng(0)
    for shape in ((2, 2), (3, 2), (2, 6), (4, 4), (1, 3)):
        scores = random.standard_normal(shape)
        rows, columns = optimize.linear_sum_assignment(scores, maximize=True)
        expected = dict(zip(rows.tolist(), columns.tolist(), strict=True))
        assert _best_pairs(scores) == [expected.get(row, -1) for row in range(shape[0])]
