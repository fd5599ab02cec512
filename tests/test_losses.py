from __future__ import annotations

from itertools import permutations

import pytest
import torch

from polsess.losses import LossConfig, SeparationLoss, permutation_invariant
from polsess.signal_ratios import si_snr


@pytest.mark.parametrize("num_sources", [1, 2, 3, 4])
def test_the_best_permutation_is_scored(num_sources: int) -> None:
    references = torch.randn(5, num_sources, 800)
    estimates = references[:, torch.randperm(num_sources)] + 0.5 * torch.randn(5, num_sources, 800)
    value, order = permutation_invariant(si_snr, estimates, references)
    every = torch.stack(
        [si_snr(estimates[:, list(p)], references).mean(-1) for p in permutations(range(num_sources))]
    )
    torch.testing.assert_close(value, every.amax(0))
    chosen = torch.stack([estimates[b, order[b]] for b in range(5)])
    torch.testing.assert_close(si_snr(chosen, references).mean(-1), value)


def test_the_loss_does_not_depend_on_the_order_of_the_estimates() -> None:
    loss = SeparationLoss(LossConfig())
    estimates, references = torch.randn(4, 3, 500), torch.randn(4, 3, 500)
    torch.testing.assert_close(loss(estimates[:, [2, 0, 1]], references), loss(estimates, references))


def test_good_utterances_are_discarded_not_clamped() -> None:
    references = torch.randn(2, 1, 2000)
    estimates = torch.stack([references[0] + 1e-3 * torch.randn(1, 2000), torch.randn(1, 2000)])
    estimates.requires_grad_()
    loss = SeparationLoss(LossConfig(discard_above_db=30.0))(estimates, references)
    torch.testing.assert_close(loss, -si_snr(estimates[1], references[1]).mean())
    (gradient,) = torch.autograd.grad(loss, estimates)
    assert not gradient[0].any()
    assert gradient[1].any()


def test_a_batch_of_good_utterances_gives_no_gradient() -> None:
    references = torch.randn(2, 1, 2000)
    estimates = (references + 1e-4 * torch.randn_like(references)).requires_grad_()
    loss = SeparationLoss(LossConfig(discard_above_db=30.0))(estimates, references)
    assert loss == 0
    assert not torch.autograd.grad(loss, estimates)[0].any()


def test_the_clamp_bounds_the_ratio() -> None:
    references = torch.randn(2, 1, 2000)
    loss = SeparationLoss(LossConfig(clamp_above_db=30.0))(references.clone(), references)
    torch.testing.assert_close(loss, torch.tensor(-30.0))


def test_auxiliary_estimates_share_the_loss() -> None:
    loss = SeparationLoss(LossConfig(auxiliary_weight=0.25))
    good, bad, references = torch.randn(3, 2, 1, 600).unbind()
    expected = 0.75 * loss(good, references) + 0.25 * loss(bad, references)
    torch.testing.assert_close(loss(good, references, [bad]), expected)


def test_the_loss_is_float32_under_autocast() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = SeparationLoss(LossConfig())(torch.randn(1, 2, 400).bfloat16(), torch.randn(1, 2, 400))
    assert loss.dtype == torch.float32
