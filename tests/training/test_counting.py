"""Training of networks that count speakers: on who is there, and on as many references as there are."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from polsess.config import parse_config
from polsess.data import Batch
from polsess.losses import LossConfig, SeparationLoss
from polsess.models import SeparationModel, create_model
from polsess.schema import ConfigError
from polsess.training.objectives.separation import SeparationObjective
from polsess.training.run import train
from tests.training.test_objectives import metadata

__all__ = ["metadata"]


def counting() -> SeparationModel:
    torch.manual_seed(0)
    return create_model("srcorrnet", preset="tiny", num_sources=3, variable_sources=True)


def batch(*numbers: int) -> Batch:
    """Mixtures of so many tones of their own; the silent references come first."""
    time = torch.arange(800) / 8000
    references = torch.zeros(len(numbers), 3, 800)
    for row, number in enumerate(numbers):
        for voice in range(number):
            pitch = 300 + 400 * voice + 90 * row
            references[row, 2 - voice] = 0.1 * torch.sin(2 * math.pi * pitch * time)
    mixture = references.sum(1) + 1e-4 * torch.randn(len(numbers), 800)
    names, keys = [str(row) for row in range(len(numbers))], [(0, row) for row in range(len(numbers))]
    lengths = torch.full((len(numbers),), 800)
    return Batch(mixture, references, lengths, names, [{} for _ in numbers], keys, [() for _ in numbers])


def manual_loss(model: SeparationModel, example: Batch, number: int, weight: float) -> Tensor:
    """Of one example, its active references picked by hand."""
    known = torch.tensor([number])
    estimates, auxiliary, presence = model.forward_present(example.mixture, known)
    there = torch.tensor([[1.0] * number + [0.0] * (4 - number)])
    loss = weight * F.binary_cross_entropy_with_logits(presence, there)
    if number:
        references = example.references[:, 3 - number :]
        further = [each[:, :number] for each in auxiliary]
        loss = loss + SeparationLoss(LossConfig())(estimates[:, :number], references, further)
    return loss


def test_the_loss_counts_active_references_alone() -> None:
    model, examples = counting(), batch(2, 1, 3, 0)
    loss = SeparationObjective(LossConfig(presence_weight=0.7), counts_speakers=True).loss(model, examples, 0)
    expected = [
        manual_loss(model, examples.rows(row, row + 1), number, 0.7)
        for row, number in enumerate((2, 1, 3, 0))
    ]
    torch.testing.assert_close(loss, torch.stack(expected).mean(), rtol=1e-4, atol=1e-4)
    loss.backward()
    assert all(
        parameter.grad is not None and parameter.grad.isfinite().all()
        for parameter in model.parameters()
        if parameter.requires_grad
    )


def test_a_number_is_learnt_and_scored() -> None:
    model, examples = counting(), batch(2)
    objective = SeparationObjective(LossConfig(presence_weight=20.0), counts_speakers=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-2)
    for _ in range(25):
        optimizer.zero_grad()
        objective.loss(model, examples, 0).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        _, counts = model.separate_counted(examples.mixture)
        assert counts is not None
        assert counts.numbers.tolist() == [2]
        summary = objective.summarise(objective.scores(model, examples))
    assert summary["val_count_accuracy"] == 1.0
    assert math.isfinite(summary["val_si_snri"])


@pytest.mark.parametrize(
    ("loss", "counts", "message"),
    [
        ({"presence_weight": 1.0}, False, "presence_weight: this model counts no speakers"),
        ({"name": "mixit"}, True, "mixit has no references to count"),
    ],
)
def test_losses_that_do_not_fit(loss: dict[str, Any], counts: bool, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SeparationObjective(LossConfig(**loss), counts_speakers=counts)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_run_on_conversations_of_one_to_three(metadata: Path, tmp_path: Path) -> None:
    corpus = {
        "corpus_type": "conversations",
        "metadata": str(metadata),
        "num_speakers": 3,
        "voice_shares": [0.1, 0.3, 0.3, 0.3],
        "segment_seconds": 0.3,
        "conversation_seconds": 0.3,
        "full_overlap_probability": 1.0,
        "examples_per_epoch": 8,
        "evaluation_examples": 6,
    }
    settings = {
        "task": "SB",
        "model": {"model_type": "srcorrnet", "preset": "tiny", "variable_sources": True},
        "data": {"corpus": corpus, "batch_size": 4},
        "training": {"max_epochs": 1, "device": "cpu"},
    }
    train(parse_config(settings), tmp_path / "run", progress=False)
    with (tmp_path / "run/metrics.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert 0 <= float(row["val_count_accuracy"]) <= 1
    assert math.isfinite(float(row["train_loss"]))
