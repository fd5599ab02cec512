"""The frame of the spectral-mapping models, around a network that does next to nothing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from polsess.models.layers.spectral_model import SpectralConfig, SpectralModel


class Squash(SpectralModel):
    def map_grid(self, grid: Tensor) -> Tensor:
        return torch.tanh(grid)


def squash(num_sources: int = 2, **options: bool) -> Squash:
    config = SpectralConfig(model_type="squash", num_sources=num_sources, n_fft=16, hop_length=8)
    return Squash(config, 6, eps=1e-5, **options)


@pytest.mark.parametrize("normalize", [True, False])
def test_the_estimates_scale_with_the_mixture_only_when_it_is_normalised(normalize: bool) -> None:
    model, mixture = squash(3, normalize_variance=normalize), torch.randn(2, 90)
    with torch.no_grad():
        estimates, louder = model(mixture), model(7.0 * mixture)
    assert estimates.shape == (2, 3, 90)
    assert torch.allclose(louder, 7.0 * estimates, atol=1e-5) == normalize


def test_sources_are_the_major_order_of_the_last_convolution() -> None:
    model = squash()
    with torch.no_grad():
        model.deconv.weight[:, 2:] = 0.0
        model.deconv.bias[2:] = 0.0  # type: ignore[index]
        estimates = model(torch.randn(1, 90))
    assert estimates[:, 0].any()
    assert not estimates[:, 1].any()


@pytest.mark.parametrize(("n_fft", "hop_length"), [(15, 4), (16, 9)])
def test_a_transform_without_overlap_is_refused(n_fft: int, hop_length: int) -> None:
    with pytest.raises(ValueError, match="at most half"):
        SpectralConfig(model_type="squash", n_fft=n_fft, hop_length=hop_length)
