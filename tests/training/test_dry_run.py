"""What a run will cost, before it starts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from polsess.cli.main import app
from polsess.config import parse_config
from polsess.costs import count_macs, weights_bytes
from polsess.models import create_model
from polsess.training.dry_run import DryRun, rehearse


def test_what_is_found_is_the_run_s(experiment: dict[str, Any]) -> None:
    experiment["training"] |= {"freeze": ["rnn.*"], "max_epochs": 7}
    found = rehearse(parse_config(experiment))
    model = create_model("blstm", preset="tiny")
    sizes = {name: each.numel() for name, each in model.named_parameters()}
    assert found.parameters == sum(sizes.values())
    assert found.trained_parameters == sum(n for name, n in sizes.items() if not name.startswith("rnn"))
    assert found.weights_bytes == weights_bytes(model)
    assert found.macs_per_second == count_macs(model).per_second
    assert (found.batch, found.steps_per_epoch, found.max_epochs) == ((4, 4000), 4, 7)
    train, val = found.data
    assert (train.split, train.examples, val.split, val.examples) == ("train", 16, "val", 4)
    assert train.hours == pytest.approx(16 * 0.5 / 3600)
    assert val.hours == pytest.approx(4 * 1.0 / 3600)
    assert min(found.step_seconds, found.loading_seconds, found.validation_seconds) > 0
    assert found.memory_bytes is None or found.memory_bytes > 2**25


def test_workers_hide_the_loading(experiment: dict[str, Any]) -> None:
    found = rehearse(parse_config(experiment)).__dict__ | {"step_seconds": 2.0, "loading_seconds": 3.0}
    one = DryRun(**found)
    assert one.training_seconds == 4 * 5.0
    two = DryRun(**{**found, "num_workers": 2})
    assert two.training_seconds == 4 * 2.0
    assert two.epoch_seconds == 8.0 + two.validation_seconds


def test_the_command_prints_and_writes_nothing(
    experiment: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(json.dumps(experiment))
    before = sorted(tmp_path.iterdir())
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["train", "-c", str(path), "--dry-run"])
    assert result.exit_code == 0, result.output
    for part in (
        "model    blstm",
        "multiply-accumulates",
        "train 16 examples",
        "4 batches",
        "at most 2 epochs",
    ):
        assert part in result.output
    assert sorted(tmp_path.iterdir()) == before


def test_too_few_examples_are_said(experiment: dict[str, Any]) -> None:
    experiment["data"]["batch_size"] = 17
    with pytest.raises(ValueError, match="16 training examples make no batch of 17"):
        rehearse(parse_config(experiment))
