"""Training without references, on mixtures of mixtures."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from polsess.config import parse_config
from polsess.data import Split, create_corpus, parse_corpus_config
from polsess.losses import LossConfig, SeparationLoss
from polsess.schema import ConfigError
from polsess.signal_ratios import si_snr
from polsess.tasks import Task
from polsess.training.run import train

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

MIXIT = {"name": "mixit", "mixit": {"max_snr_db": 20.0}}


def test_examples_are_sums_of_mixtures(experiment: dict[str, Any]) -> None:
    config = parse_corpus_config(experiment["data"]["corpus"])
    plain = create_corpus(config, Split.TRAIN, Task.SB, 3)
    mixed = create_corpus(config, Split.TRAIN, Task.SB, 3, num_mixtures=2)
    assert len(mixed) == len(plain)
    assert mixed.fingerprint() == plain.fingerprint()
    example = mixed.example(1, 5)
    own, other = (int(name.rpartition("-")[2]) for name in example.identifier.split("+"))
    assert own == 5 != other
    expected = torch.stack([plain.example(1, each).mixture for each in (own, other)])
    assert torch.equal(example.references, expected)
    assert torch.equal(example.mixture, expected.sum(0))
    assert torch.equal(mixed.example(1, 5).mixture, example.mixture)
    partners = {mixed.example(epoch, 5).identifier for epoch in range(4)}
    assert len(partners) > 1


def test_the_loss_sees_mixtures_and_all_estimates(
    experiment: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Tensor, Tensor, Tensor]] = []
    original = SeparationLoss.__call__

    def call(self: SeparationLoss, estimates: Tensor, references: Tensor, *rest: Any) -> Tensor:
        loss = original(self, estimates, references, *rest)
        seen.append((estimates.detach(), references, loss.detach()))
        return loss

    monkeypatch.setattr(SeparationLoss, "__call__", call)
    experiment["training"] |= {"loss": MIXIT, "max_epochs": 1}
    config = parse_config(experiment)
    assert config.model.model_dump()["num_sources"] == 4
    train(config, tmp_path / "run", progress=False)
    corpus = create_corpus(config.data.corpus, Split.TRAIN, Task.SB, config.seed)
    mixtures = [corpus.example(0, index).mixture for index in range(len(corpus))]
    assert len(seen) == 4
    for estimates, references, loss in seen:
        assert estimates.shape[:2] == (4, 4)
        assert references.shape[:2] == (4, 2)
        assert all(any(torch.equal(each, known) for known in mixtures) for each in references.flatten(0, 1))
        assert loss >= -20.0


def test_a_network_learns_to_take_mixtures_apart(experiment: dict[str, Any], tmp_path: Path) -> None:
    experiment["training"] |= {"loss": MIXIT, "max_epochs": 12}
    result = train(parse_config(experiment), tmp_path / "run", progress=False)
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"]) - 2.0
    assert result.best_score > 1.0


def test_the_score_is_of_the_best_dealing_out() -> None:
    mixtures = torch.randn(1, 2, 400)
    first, second = mixtures[0]
    estimates = torch.stack([0.3 * first, second, 0.7 * first, torch.zeros(400)]).unsqueeze(0)
    score = SeparationLoss(LossConfig(name="mixit")).score(estimates, mixtures)
    torch.testing.assert_close(score, si_snr(mixtures, mixtures).mean(-1), atol=0.5, rtol=0)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ({"mixit": {}}, "mixit has options, but the loss is si_snr"),
        ({"name": "mixit", "clamp_above_db": 30.0}, "mixit has no clamp_above_db"),
        ({"name": "mixit", "mixit": {"num_mixtures": 1}}, "num_mixtures"),
    ],
)
def test_options_that_would_not_count_are_refused(
    experiment: dict[str, Any], loss: dict[str, Any], message: str
) -> None:
    experiment["training"] |= {"loss": loss}
    with pytest.raises(ConfigError, match=message):
        parse_config(experiment)


def test_one_example_is_not_enough(experiment: dict[str, Any]) -> None:
    config = parse_corpus_config({**experiment["data"]["corpus"], "evaluation_examples": 1})
    with pytest.raises(ValueError, match=r"1 example, but 2 different ones"):
        create_corpus(config, Split.VAL, Task.SB, num_mixtures=2)
