"""Levels: least squares finds the gains of independent sources and stays calm where it has no say."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from polsess.inference.levels import LevelStatistics


def gains(sources: Tensor, mixture: Tensor) -> Tensor:
    statistics = LevelStatistics(len(sources), 1, 8000)
    for block, part in zip(sources.split(777, 1), mixture.split(777), strict=True):
        statistics.add(block.unsqueeze(1).numpy(), part.unsqueeze(0).numpy())
    return torch.from_numpy(statistics.gains()[:, 0]).float()


@pytest.mark.parametrize("true", [(1.0, 1.0), (0.1, 10.0), (-1.0, 1.0), (3.0, 0.01), (2.0, 0.5, -4.0)])
def test_the_gains_of_independent_sources(true: tuple[float, ...]) -> None:
    factors = torch.tensor(true)
    sources = torch.randn(len(true), 20000)
    sources *= torch.tensor([1.0, 0.3, 0.7])[: len(true), None] / factors[:, None]
    found = gains(sources, factors @ sources)
    torch.testing.assert_close(found, factors, rtol=5e-3, atol=0)


def test_noise_in_the_mixture_is_nobodys() -> None:
    sources = torch.randn(2, 100_000)
    found = gains(sources / 5, sources.sum(0) + torch.randn(100_000))
    torch.testing.assert_close(found, torch.full((2,), 5.0), rtol=0.02, atol=0)


def test_one_source_is_a_projection() -> None:
    speech, noise = torch.randn(2, 50_000)
    assert gains(speech[None] / 7, speech + noise).item() == pytest.approx(7.0, rel=0.02)


def test_outputs_alike_share_the_mixture_in_the_proportion_of_the_network() -> None:
    speech = torch.randn(20_000)
    leak = torch.stack([speech, 0.1 * speech]) / 4
    found = gains(leak, speech)
    torch.testing.assert_close(found, torch.full((2,), 4 / 1.1), rtol=1e-3, atol=0)


def test_silence_and_a_silent_output() -> None:
    speech = torch.randn(20_000)
    silent = torch.zeros_like(speech)
    assert not gains(torch.stack([speech, silent]), silent).any()
    assert not gains(torch.zeros(2, 100), torch.zeros(100)).any()
    assert gains(torch.stack([speech / 2, silent]), speech)[0].item() == pytest.approx(2.0, rel=1e-4)
    assert gains(torch.zeros(2, 20_000), speech).isfinite().all()


def test_channels_are_matched_by_when_each_speaks() -> None:
    first = torch.randn(8000).where(torch.arange(8000) < 4000, torch.zeros(()))
    second = torch.randn(8000).where(torch.arange(8000) >= 4000, torch.zeros(()))
    near = torch.stack([first, second])
    far = 0.2 * torch.stack([second, first]).roll(30, dims=1)
    statistics = LevelStatistics(2, 2, 8000)
    statistics.add(torch.stack([near, far], 1).numpy(), torch.stack([near.sum(0), far.sum(0)]).numpy())
    assert statistics.matching_channels() == [(0, 1), (1, 0)]
    swapped = statistics.in_order([(1, 0), (0, 1)])
    assert swapped.matching_channels() == [(0, 1), (0, 1)]
    matched = statistics.in_order([(0, 1), (1, 0)])
    assert matched.matching_channels() == [(0, 1), (0, 1)]
