"""Count accuracy and penalised SI-SNRi."""

from __future__ import annotations

import math

import pytest
import torch

from polsess.metrics import resolve_metrics, score_utterance
from polsess.schema import ConfigError


def scores(references: torch.Tensor, estimates: torch.Tensor, counted: int) -> tuple[float, float, float]:
    mixture = references.sum(0)
    found = score_utterance(estimates, references, mixture, 8000, ["si_snr", "count"], num_speakers=counted)
    base = [value for value in found.values["si_snr_mixture"] if not math.isnan(value)]
    return found.mean("count_accuracy"), found.mean("penalised_si_snri"), sum(base) / len(base)


@pytest.fixture
def references() -> torch.Tensor:
    return torch.randn(3, 4000, generator=torch.Generator().manual_seed(0))


def at_20_db(signals: torch.Tensor) -> torch.Tensor:
    """With noise of its own a tenth as loud."""
    return signals + 0.1 * torch.randn(signals.shape, generator=torch.Generator().manual_seed(1))


def test_the_right_number_is_si_snri(references: torch.Tensor) -> None:
    accuracy, penalised, of_mixture = scores(references, at_20_db(references), 3)
    assert accuracy == 100
    assert penalised == pytest.approx(20 - of_mixture, abs=0.5)


def test_one_missed_and_one_too_many(references: torch.Tensor) -> None:
    two = at_20_db(references)
    two[2] = 0
    accuracy, penalised, of_mixture = scores(references, two, 2)
    assert accuracy == 0
    assert penalised == pytest.approx((20 + 20 - 30) / 3 - of_mixture, abs=0.5)
    fewer = references.clone()
    fewer[2] = 0
    accuracy, penalised, of_mixture = scores(fewer, at_20_db(references), 3)
    assert accuracy == 0
    assert penalised == pytest.approx((20 + 20 - 30) / 3 - of_mixture, abs=0.5)
    silent = at_20_db(fewer)
    silent[2] = 0
    assert scores(fewer, silent, 2)[0] == 100


def test_nobody(references: torch.Tensor) -> None:
    nobody = torch.zeros_like(references)
    noise = references.sum(0)
    found = score_utterance(nobody, nobody, noise, 8000, ["count"], num_speakers=0)
    assert found.mean("count_accuracy") == 100
    assert found.reasons["penalised_si_snri"] == "nobody talks"


def test_only_systems_that_count_have_it(references: torch.Tensor) -> None:
    assert "count" not in resolve_metrics(None)
    assert "count" in resolve_metrics(None, counts=True)
    with pytest.raises(ConfigError, match="needs a model that counts speakers"):
        resolve_metrics(["count"])
    found = score_utterance(references, references, references.sum(0), 8000, ["count"])
    assert found.reasons["count_accuracy"] == "the system does not count speakers"
