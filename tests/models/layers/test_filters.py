from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.signal
import torch
from safetensors.torch import load_file

from polsess.models import create_model
from polsess.models.layers.filterbank import Decoder, Encoder
from polsess.models.layers.filters import (
    AnalyticFilters,
    AnalyticOptions,
    FourierFilters,
    SincFilters,
    SincOptions,
)
from polsess.schema import ConfigError
from tests.conftest import GOLDEN


def test_fourier_filters_are_those_of_the_toolkit_and_reconstruct() -> None:
    expected = load_file(GOLDEN / "toolkit_options" / "asteroid.safetensors")["filters"]
    torch.testing.assert_close(FourierFilters(12, 6, 2)(), expected)
    encoder, decoder = (
        kind(18, 16, 8, filters=lambda: FourierFilters(18, 16, 8)).double() for kind in (Encoder, Decoder)
    )
    mixture = torch.randn(2, 160, dtype=torch.float64)
    again = decoder(encoder(mixture).unsqueeze(1)).squeeze(1)
    torch.testing.assert_close(again[:, 8:-8], mixture[:, 8:-8], rtol=1e-6, atol=1e-6)
    assert not list(encoder.parameters())


@pytest.mark.parametrize("size", [9, 16])
def test_partners_of_analytic_filters(size: int) -> None:
    hilbert = AnalyticFilters(6, size, AnalyticOptions(kind="analytic"))
    first, second = hilbert().detach().double().chunk(2)
    expected = np.imag(scipy.signal.hilbert(first.numpy(), axis=-1))
    torch.testing.assert_close(second.numpy(), expected, rtol=1e-4, atol=1e-6)
    mirror = AnalyticFilters(6, size, AnalyticOptions(kind="analytic", partner="mirror"))
    first, second = mirror().detach().chunk(2)
    torch.testing.assert_close(second, first.flip(-1).roll(1, -1), rtol=1e-4, atol=1e-6)


def test_sinc_filters_pass_their_bands() -> None:
    filters = SincFilters(8, 401, 8000, SincOptions(kind="sinc"))
    response = torch.fft.rfft(filters().detach().squeeze(1), n=8000).abs()  # a bin a hertz
    low = 50.0 + filters.low_hz.detach().flatten()
    high = low + 50.0 + filters.band_hz.detach().flatten()
    for index, (first, last) in enumerate(zip(low.tolist(), high.tolist(), strict=True)):
        for part in (response[index], response[index + 4]):
            level = part / part.max()
            assert level[int(first) + 40 : int(last) - 40].min() > 0.9
            assert level[: max(int(first) - 40, 0)].sum() + level[int(last) + 40 :].sum() < 0.1 * level.sum()


@pytest.mark.parametrize("name", ["convtasnet", "dprnn", "dptnet"])
@pytest.mark.parametrize(
    "filters", [{"kind": "analytic"}, {"kind": "sinc", "min_low_hz": 20.0}, {"kind": "stft"}], ids=str
)
def test_networks_train_with_filters_that_are_made(name: str, filters: dict[str, Any]) -> None:
    model = create_model(name, preset="tiny", filters=filters, kernel_size=9, encoder_activation="prelu")
    model(torch.randn(2, 300)).square().sum().backward()
    assert all(each.grad is not None for each in model.parameters())
    trained = {key.rpartition(".")[0] for key, _ in model.named_parameters()}
    assert ("encoder.conv.filters" in trained) == (filters["kind"] != "stft")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"filters": {"kind": "sinc"}, "kernel_size": 8}, "'sinc' need an odd kernel_size, got 8"),
        ({"filters": {"kind": "analytic"}, "num_filters": 7}, "num_filters 7 must be even"),
        (
            {"filters": {"kind": "stft"}, "num_filters": 8, "kernel_size": 8},
            "at least kernel_size [+] 2, got 8",
        ),
        ({"filters": {"kind": "stf"}}, "filters.kind: expected one of analytic, sinc, stft, got 'stf'"),
        (
            {"filters": {"kind": "stft", "partner": "mirror"}},
            "filters.partner: unknown key of FourierOptions",
        ),
    ],
)
def test_filters_that_cannot_be_made_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        create_model("dprnn", preset="tiny", **options)
