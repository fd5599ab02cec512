"""TIGER beyond the contract: sizes, bands, sums, and inference in blocks."""

from __future__ import annotations

import pytest
import torch

from polsess.models import create_model, tiger
from polsess.models.tiger import TIGERConfig


@pytest.mark.parametrize("preset", ["large", "small"])
def test_published_sizes(preset: str) -> None:
    with torch.device("meta"):
        model = create_model("tiger", preset=preset)
    assert sum(parameter.numel() for parameter in model.parameters()) == 821_932


@pytest.mark.parametrize(("rate", "n_fft", "rest"), [(16000, 638, 0), (16000, 640, 1), (44100, 2048, 0)])
def test_the_bands_cover_the_spectrum(rate: int, n_fft: int, rest: int) -> None:
    if rest == 0 and rate == 16000:
        with pytest.raises(ValueError, match="leaves a band without a bin"):
            TIGERConfig(sample_rate=rate, n_fft=n_fft)
        return
    config = TIGERConfig(sample_rate=rate, n_fft=n_fft, hop_length=n_fft // 4)
    assert len(config.band_widths) == 67
    assert sum(config.band_widths) == n_fft // 2 + 1
    assert min(config.band_widths) >= 1


@pytest.mark.parametrize("num_sources", [1, 2, 3])
def test_the_estimates_add_up_to_the_mixture(num_sources: int) -> None:
    model = create_model("tiger", preset="tiny", num_sources=num_sources).eval()
    mixture = torch.randn(2, 2000)
    with torch.no_grad():
        estimates = model(mixture).view(2, num_sources, -1)
    torch.testing.assert_close(estimates.sum(1), mixture, rtol=0, atol=1e-5)


def test_inference_in_blocks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model, mixture = create_model("tiger", preset="tiny").eval(), torch.randn(2, 9000)
    with torch.no_grad():
        whole = model(mixture)
        monkeypatch.setattr(tiger, "_MAX_NUMBERS", 3000)
        torch.testing.assert_close(model(mixture), whole, rtol=1e-4, atol=1e-5)


def test_the_level_passes_through() -> None:
    model, mixture = create_model("tiger", preset="tiny").eval(), torch.randn(1, 3000)
    with torch.no_grad():
        torch.testing.assert_close(model(100 * mixture), 100 * model(mixture), rtol=1e-3, atol=1e-2)
