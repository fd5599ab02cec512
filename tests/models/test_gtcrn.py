"""GTCRN beyond the contract: its size and its bands."""

from __future__ import annotations

import pytest
import torch

from polsess.models import create_model
from polsess.models.gtcrn import erb_bands
from tests.conftest import GOLDEN


def test_published_size() -> None:
    parameters = list(create_model("gtcrn").parameters())
    assert sum(each.numel() for each in parameters) == 48_245
    assert sum(each.numel() for each in parameters if each.requires_grad) == 23_669


def test_the_bands_are_those_of_the_published_file() -> None:
    stored = torch.load(GOLDEN / "gtcrn/model.tar", weights_only=True)["model"]["erb.erb_fc.weight"]
    torch.testing.assert_close(erb_bands(16000), stored, rtol=0, atol=1e-6)


@pytest.mark.parametrize("rate", [8000, 16000, 48000])
def test_the_bands_share_every_bin(rate: int) -> None:
    bands = erb_bands(rate)
    assert bands.min() >= 0
    torch.testing.assert_close(bands.sum(0), torch.ones(192))
