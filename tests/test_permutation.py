from __future__ import annotations

from itertools import permutations

import pytest
import torch

from polsess.permutation import apply_permutation, best_permutation


@pytest.mark.parametrize("num_sources", [1, 2, 3, 4, 7])
def test_the_best_assignment_is_found(num_sources: int) -> None:
    scores = torch.randn(20, num_sources, num_sources)
    orders = torch.tensor(list(permutations(range(num_sources))))
    totals = scores[:, torch.arange(num_sources), orders].sum(-1)
    assert torch.equal(best_permutation(scores), orders[totals.argmax(1)])


def test_a_three_cycle_is_not_inverted() -> None:
    """Estimate per reference, not reference per estimate: the two differ for cycles."""
    references = torch.eye(3)
    estimates = references[[1, 2, 0]].unsqueeze(0)  # estimate j is reference (j + 1) % 3
    order = best_permutation(references @ estimates.mT)
    assert order.tolist() == [[2, 0, 1]]
    assert torch.equal(apply_permutation(estimates, order)[0], references)


@pytest.mark.parametrize("num_sources", [3, 5])
def test_ties_and_extremes_still_give_a_permutation(num_sources: int) -> None:
    for scores in (
        torch.zeros(1, num_sources, num_sources),
        torch.full((1, num_sources, num_sources), -1e30),
        torch.full((1, num_sources, num_sources), torch.nan),
    ):
        assert sorted(best_permutation(scores)[0].tolist()) == list(range(num_sources))


@pytest.mark.parametrize("shape", [(1, 2, 1), (1, 1, 2), (1, 5, 4), (2, 2)])
def test_as_many_estimates_as_references(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected scores \[B, C, C\]"):
        best_permutation(torch.zeros(shape))
