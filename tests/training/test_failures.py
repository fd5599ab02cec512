from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

from polsess.cli.main import app
from polsess.config import parse_config
from polsess.models import create_model
from polsess.models.blstm import BLSTM
from polsess.training.failures import TrainingStopped, first_non_finite_module
from polsess.training.module import TrainingModule
from polsess.training.replay import replay_step
from polsess.training.run import TrainingResult, create_trained_model, train

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def run(experiment: dict[str, Any], folder: Path, **training: Any) -> TrainingResult:
    config = parse_config({**experiment, "training": {**experiment["training"], **training}})
    return train(config, folder, progress=False)


def break_at(monkeypatch: pytest.MonkeyPatch, steps: set[int], value: float = float("nan")) -> None:
    """Let the network return a value that is not finite in some training steps."""
    original = BLSTM.estimate_sources
    calls = iter(range(10**9))

    def estimate_sources(self: BLSTM, mixture: Tensor) -> Tensor:
        estimates = original(self, mixture)
        return estimates * value if self.training and next(calls) in steps else estimates

    monkeypatch.setattr(BLSTM, "estimate_sources", estimate_sources)


def test_a_bad_step_is_left_out_and_written_down(
    experiment: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_at(monkeypatch, {2, 5})
    result = run(experiment, tmp_path / "run")
    assert result.skipped_steps == 2
    records = [json.loads(line) for line in (tmp_path / "run" / "non_finite.jsonl").read_text().splitlines()]
    assert [(record["epoch"], len(record["items"])) for record in records] == [(0, 4), (1, 4)]
    assert records[0]["what"] == "loss nan"
    last = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert all(value.isfinite().all() for value in last["state_dict"].values())
    assert last["polsess_state"]["skipped_steps"] == 2


def test_a_bad_gradient_is_left_out_too(
    experiment: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = TrainingModule.manual_backward

    def backward(self: TrainingModule, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        original(self, loss, *args, **kwargs)
        if self.global_step == 1:
            next(self.parameters()).grad.fill_(float("inf"))  # type: ignore[union-attr]
            monkeypatch.setattr(TrainingModule, "manual_backward", original)

    monkeypatch.setattr(TrainingModule, "manual_backward", backward)
    assert run(experiment, tmp_path / "run").skipped_steps == 1
    assert "gradient norm" in (tmp_path / "run" / "non_finite.jsonl").read_text()


def test_a_bad_batch_does_not_reach_running_means(
    experiment: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither in its step nor when the network is run once more to say where it failed."""
    calls = iter(range(10**9))

    def overflow(norm: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        bad = norm.training and next(calls) in (1, 2)  # the second step, and the description of it
        return (inputs[0] * (torch.inf if bad else 1.0),)

    def create_with_norm(*args: Any, **kwargs: Any) -> Any:
        model: Any
        model, origin = create_trained_model(*args, **kwargs)
        original = model.estimate_sources
        model.centred = nn.BatchNorm1d(1)
        model.centred.register_forward_pre_hook(overflow)
        model.estimate_sources = lambda mixture: original(model.centred(mixture.unsqueeze(1)).squeeze(1))
        return model, origin

    monkeypatch.setattr("polsess.training.run.create_trained_model", create_with_norm)
    assert run(experiment, tmp_path / "run", max_epochs=1).skipped_steps == 1
    last = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert last["model.centred.running_mean"].isfinite().all()
    assert last["model.centred.num_batches_tracked"] == 3  # of four steps


def test_too_many_bad_steps_end_the_run_with_a_replay(
    experiment: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_at(monkeypatch, set(range(3, 100)))
    with pytest.raises(TrainingStopped, match=r"2 steps were left out .*limit 1.*polsess train --replay"):
        run(experiment, tmp_path / "run", max_skipped_steps=1)
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").exists()  # of the good first epoch
    break_at(monkeypatch, set(range(100)))
    replay = replay_step(tmp_path / "run" / "replay.pt")
    assert replay.reproduced
    assert len(replay.items) == 4
    result = CliRunner().invoke(app, ["train", "--replay", str(tmp_path / "run" / "replay.pt")])
    assert result.exit_code == 0
    assert "not finite: reproduced" in result.output
    more = CliRunner().invoke(app, ["train", "--replay", str(tmp_path / "run" / "replay.pt"), "--resume"])
    assert (more.exit_code, "--replay goes alone" in more.output) == (2, True)


def test_a_replay_draws_what_the_step_drew(
    experiment: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dropout, for one, may be what made a value not finite."""
    original = BLSTM.estimate_sources
    drawn: list[float] = []

    def estimate_sources(self: BLSTM, mixture: Tensor) -> Tensor:
        if not self.training or not torch.is_grad_enabled():
            return original(self, mixture)
        drawn.append(torch.rand(()).item())
        return original(self, mixture) * (float("nan") if len(drawn) > 2 else 1.0)

    monkeypatch.setattr(BLSTM, "estimate_sources", estimate_sources)
    with pytest.raises(TrainingStopped):
        run(experiment, tmp_path / "run", max_skipped_steps=0)
    replay_step(tmp_path / "run" / "replay.pt")
    assert drawn[3] == drawn[2]


def test_a_foreign_file_is_no_replay(tmp_path: Path) -> None:
    torch.save({"a": 1}, tmp_path / "x.pt")
    with pytest.raises(ValueError, match=r"x\.pt: not the replay file of a run"):
        replay_step(tmp_path / "x.pt")


def test_the_first_bad_module_is_named() -> None:
    class Log(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.log(-x.abs())

    model, mixture = create_model("blstm", preset="tiny"), torch.randn(1, 500)
    assert first_non_finite_module(model, mixture) == "the loss or its gradient"
    model.norm = nn.Sequential(nn.Identity(), Log())
    assert first_non_finite_module(model, mixture) == "norm.1"
    assert first_non_finite_module(model, mixture * float("nan")) == "the mixture"
    model = create_model("blstm", preset="tiny")
    model.to_masks.bias.data[0] = float("inf")  # type: ignore[union-attr,operator]
    assert first_non_finite_module(model, mixture) == "parameters: to_masks.bias"


@pytest.mark.parametrize("accumulated", [1, 2])
def test_out_of_memory_halves_the_batch_and_changes_nothing_else(
    experiment: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    accumulated: int,
) -> None:
    run(experiment, tmp_path / "enough", accumulate_batches=accumulated)
    original = BLSTM.estimate_sources
    calls = iter(range(10**9))

    def estimate_sources(self: BLSTM, mixture: Tensor) -> Tensor:
        # The last batch of the first group is the first that does not fit.
        if self.training and next(calls) >= accumulated - 1 and len(mixture) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return original(self, mixture)

    monkeypatch.setattr(BLSTM, "estimate_sources", estimate_sources)
    run(experiment, tmp_path / "scarce", accumulate_batches=accumulated)
    assert capsys.readouterr().out.count("Out of memory: from here on, batches are computed in") == 2
    states = [
        torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for name in ("enough", "scarce")
    ]
    for key, value in states[0].items():
        torch.testing.assert_close(states[1][key], value, rtol=1e-3, atol=1e-4)


def test_memory_that_is_never_enough_ends_the_run(
    experiment: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def estimate_sources(*_: Any) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(BLSTM, "estimate_sources", estimate_sources)
    with pytest.raises(TrainingStopped, match=r"one example does not fit: memory ran out\. Choose shorter"):
        run(experiment, tmp_path / "run")


def test_a_full_disk_keeps_the_last_checkpoint(
    experiment: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(experiment, tmp_path / "run", max_epochs=1)
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    before = last.read_bytes()

    def save(*_args: Any, **_kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", save)
    config = parse_config({**experiment, "training": {**experiment["training"], "max_epochs": 3}})
    with pytest.raises(OSError, match="No space left"):
        train(config, tmp_path / "run", resume=True, progress=False)
    assert last.read_bytes() == before
    assert [path.name for path in last.parent.iterdir() if path.name.startswith(".")] == []
