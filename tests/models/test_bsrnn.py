"""BSRNN beyond the contract: bands, the paper's network written out, and inference in blocks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from polsess.models import bsrnn, create_model
from polsess.models.bsrnn import BSRNN, BSRNNConfig
from polsess.models.combination import average_shifts


@pytest.mark.parametrize(
    ("rate", "n_fft", "edges", "widths"),
    [
        (8000, 256, (500, 1000, 2000), [16, 16, 32, 65]),
        (16000, 512, (500, 1000, 2000), [16, 16, 32, 193]),
        (8000, 128, (1010,), [16, 49]),  # the nearest bin
        (44100, 2048, (), [1025]),
    ],
)
def test_the_bands_cover_the_spectrum(
    rate: int, n_fft: int, edges: tuple[float, ...], widths: list[int]
) -> None:
    config = BSRNNConfig(sample_rate=rate, n_fft=n_fft, hop_length=n_fft // 4, band_edges_hz=edges)
    assert config.band_widths == widths
    assert sum(widths) == n_fft // 2 + 1


@pytest.mark.parametrize("edges", [(500, 500), (1000, 500), (0, 500), (500, 8000), (10, 500)])
def test_edges_without_a_bin_between_are_refused(edges: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="band_edges_hz: expected rising edges"):
        BSRNNConfig(band_edges_hz=edges)


def lstm(rows: Tensor, weights: dict[str, Tensor], prefix: str) -> Tensor:
    """Both directions step by step, ``[R, S, N]`` -> ``[R, S, 2H]``."""
    directions = []
    for suffix, order in (("", rows), ("_reverse", rows.flip(1))):
        w, u = weights[f"{prefix}weight_ih_l0{suffix}"], weights[f"{prefix}weight_hh_l0{suffix}"]
        bias = weights[f"{prefix}bias_ih_l0{suffix}"] + weights[f"{prefix}bias_hh_l0{suffix}"]
        hidden = cell = rows.new_zeros(len(rows), u.shape[1])
        steps = []
        for step in order.unbind(1):
            enter, forget, new, leave = (step @ w.T + hidden @ u.T + bias).chunk(4, -1)
            cell = forget.sigmoid() * cell + enter.sigmoid() * new.tanh()
            hidden = leave.sigmoid() * cell.tanh()
            steps.append(hidden)
        directions.append(torch.stack(steps if not suffix else steps[::-1], 1))
    return torch.cat(directions, -1)


def norm(features: Tensor, weights: dict[str, Tensor], prefix: str, dims: tuple[int, ...]) -> Tensor:
    centred = features - features.mean(dims, keepdim=True)
    scaled = centred / (centred.square().mean(dims, keepdim=True) + 2.0**-23).sqrt()
    return scaled * weights[f"{prefix}weight"] + weights[f"{prefix}bias"]


def written_out(model: BSRNN, mixture: Tensor) -> Tensor:
    """The network as the paper tells it, one band after the other."""
    config, weights = model.config, dict(model.state_dict())
    window = torch.hann_window(config.n_fft, dtype=mixture.dtype)
    spectrum = torch.stft(
        mixture, config.n_fft, config.hop_length, window=window, pad_mode="reflect", return_complex=True
    ).mT  # [B, L, F]
    level = spectrum.abs().square().mean((1, 2), keepdim=True).sqrt()
    relative = spectrum / level
    features = [relative.real, relative.imag]
    if config.features == "compressed":
        size = relative.abs()
        loud = 1 + 2 * (size + 1e-3).log() / torch.tensor(1e3, dtype=mixture.dtype).log()
        features = [loud, *(part * size.clamp_min(1e-8) ** -0.7 for part in features)]
    heard = torch.stack(features, -1)
    bands, start = [], 0
    for index, width in enumerate(config.band_widths):
        band = heard[:, :, start : start + width].flatten(2)
        band = norm(band, weights, f"split.{index}.0.", (1, 2))
        bands.append(F.linear(band, weights[f"split.{index}.1.weight"], weights[f"split.{index}.1.bias"]))
        start += width
    grid = torch.stack(bands, 2)  # [B, L, M, N]
    dims = (1, 2) if config.norm == "gLN" else (2,)
    for block in range(config.num_blocks):
        for path, name in ((0, "along_time"), (1, "along_bands")):
            prefix = f"{name}.{block}."
            rows = (grid.transpose(1, 2) if path == 0 else grid).flatten(0, 1)
            hidden = lstm(norm(rows, weights, f"{prefix}norm.", dims), weights, f"{prefix}lstm.")
            rows = rows + F.linear(
                hidden, weights[f"{prefix}project.weight"], weights[f"{prefix}project.bias"]
            )
            shape = grid.transpose(1, 2).shape if path == 0 else grid.shape
            grid = rows.view(shape).transpose(1, 2) if path == 0 else rows.view(shape)
    masks = []
    for index, width in enumerate(config.band_widths):
        band = norm(grid[:, :, index], weights, f"masks.{index}.0.", dims)
        band = F.linear(band, weights[f"masks.{index}.1.weight"], weights[f"masks.{index}.1.bias"]).tanh()
        band = F.linear(band, weights[f"masks.{index}.3.weight"], weights[f"masks.{index}.3.bias"])
        value, gate = band.chunk(2, -1)
        parts = (value * gate.sigmoid()).view(*band.shape[:2], config.num_sources, width, 2)
        masks.append(torch.complex(parts[..., 0], parts[..., 1]))
    estimates = torch.cat(masks, -1).permute(0, 2, 1, 3) * spectrum[:, None]  # [B, C, L, F]
    waves = torch.istft(
        estimates.flatten(0, 1).mT, config.n_fft, config.hop_length, window=window, length=mixture.shape[-1]
    )
    return waves.unflatten(0, (len(mixture), -1))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"features": "compressed", "norm": "cLN"},
        {"num_sources": 3, "band_edges_hz": (), "num_blocks": 1},
        {"sample_rate": 16000, "n_fft": 128, "hop_length": 64, "features": "compressed"},
    ],
)
def test_the_network_is_the_paper_s(options: dict[str, Any]) -> None:
    model = create_model("bsrnn", preset="tiny", **options).double().eval()
    assert isinstance(model, BSRNN)
    mixture = torch.randn(2, 1024, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(model(mixture), written_out(model, mixture), rtol=1e-7, atol=1e-9)


def test_inference_in_blocks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model, mixture = create_model("bsrnn", preset="tiny").eval(), torch.randn(3, 4000)
    with torch.no_grad():
        whole = model(mixture)
        monkeypatch.setattr(bsrnn, "_STEPS_TOGETHER", 100)
        torch.testing.assert_close(model(mixture), whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("features", ["complex", "compressed"])
def test_the_level_passes_through(features: str) -> None:
    model = create_model("bsrnn", preset="tiny", features=features).eval()
    mixture = torch.randn(1, 3000)
    with torch.no_grad():
        torch.testing.assert_close(model(100 * mixture), 100 * model(mixture), rtol=1e-3, atol=1e-2)


def test_shifts_are_averaged_outside_training() -> None:
    once = create_model("bsrnn", preset="tiny").eval()
    twice = create_model("bsrnn", preset="tiny", num_shifts=2).eval()
    twice.load_state_dict(once.state_dict())
    mixture = torch.randn(2, 900)
    with torch.no_grad():
        expected = average_shifts(once, mixture, 32, 2)
        torch.testing.assert_close(twice(mixture), expected, rtol=1e-5, atol=1e-6)
        assert torch.equal(twice.train()(mixture), once.train()(mixture))
    with pytest.raises(ValueError, match="num_shifts=33 must be at most hop_length=32"):
        create_model("bsrnn", preset="tiny", num_shifts=33)
