"""A run that was stopped and continued ends with the very weights of a run that was not."""

from __future__ import annotations

import csv
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from polsess.cli.main import app
from polsess.config import parse_config
from polsess.models import create_model, list_models
from polsess.training.history import RunState, read_run
from polsess.training.module import TrainingModule
from polsess.training.run import TrainingResult, create_trained_model, train
from polsess.training.signals import Preempted

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

STEPS_PER_EPOCH = 4


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int, number: int = signal.SIGTERM) -> None:
    """Let this process receive a signal while it computes a batch (counted from 0 over the whole run)."""
    original = TrainingModule.training_step

    def training_step(self: TrainingModule, batch: Any, batch_idx: int) -> None:
        if self.current_epoch * STEPS_PER_EPOCH + batch_idx == step:
            os.kill(os.getpid(), number)
        original(self, batch, batch_idx)

    monkeypatch.setattr(TrainingModule, "training_step", training_step)


def final_state(folder: Path) -> dict[str, Any]:
    content = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    kept = ("state_dict", "optimizer_states", "polsess_state", "polsess_progress", "current_model_state")
    return {key: content[key] for key in kept if key in content}


def assert_equal(one: Any, two: Any) -> None:
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, two)
    elif isinstance(one, dict):
        assert one.keys() == two.keys()
        for key in one:
            assert_equal(one[key], two[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(two)
        for first, second in zip(one, two, strict=True):
            assert_equal(first, second)
    else:
        assert one == two


def epochs(folder: Path) -> list[dict[str, str]]:
    """The rows of ``metrics.csv`` without the time."""
    with (folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        del row["minutes_since_start"]
    return rows


def run_in_pieces(
    experiment: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch, cuts: list[int]
) -> None:
    config = parse_config(experiment)
    for number, cut in enumerate(cuts):
        with monkeypatch.context() as patch:
            stop_at(patch, cut)
            with pytest.raises(Preempted, match=r"Stopped by SIGTERM; .* continue with --resume"):
                train(config, folder, resume=number > 0, progress=False)
    train(config, folder, resume=True, progress=False)


def with_training(experiment: dict[str, Any], **training: Any) -> dict[str, Any]:
    return {**experiment, "training": {**experiment["training"], **training}}


@pytest.mark.parametrize(
    "training",
    [
        {},
        {"ema_decay": 0.9, "accumulate_batches": 3},
        {"optimizer": {"learning_rate": 0.01, "warmup_steps": 5, "schedule": "cosine"}},
        {"optimizer": {"learning_rate": 0.5, "plateau_patience": 0}, "early_stopping_patience": 2},
    ],
    ids=["plain", "average and accumulation", "warm-up and cosine", "plateau and early stop"],
)
def test_stopped_at_three_points(
    experiment: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, training: dict[str, Any]
) -> None:
    """Within an epoch, at its first batch and at its last."""
    experiment["model"]["dropout"] = 0.3
    experiment["data"]["corpus"]["speed_range"] = [0.9, 1.1]
    experiment = with_training(experiment, max_epochs=4, **training)
    train(parse_config(experiment), tmp_path / "through", progress=False)
    run_in_pieces(experiment, tmp_path / "pieces", monkeypatch, [1, 4, 7])
    assert_equal(final_state(tmp_path / "pieces"), final_state(tmp_path / "through"))
    assert epochs(tmp_path / "pieces") == epochs(tmp_path / "through")


@pytest.mark.parametrize("name", list_models())
def test_every_model_resumes_exactly(
    experiment: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    experiment["model"] = {"model_type": name, "preset": "tiny"}
    experiment["data"]["corpus"] |= {
        "sample_rate": create_model(name, preset="tiny").sample_rate,
        "segment_seconds": 0.1,
        "examples_per_epoch": 8,
        "evaluation_examples": 1,
    }
    experiment["data"]["batch_size"] = 2
    experiment = with_training(experiment, max_epochs=2)
    train(parse_config(experiment), tmp_path / "through", progress=False)
    run_in_pieces(experiment, tmp_path / "pieces", monkeypatch, [0, 2, 5])
    assert_equal(final_state(tmp_path / "pieces"), final_state(tmp_path / "through"))


def test_workers_do_not_change_a_resumed_run(
    experiment: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = with_training(experiment, max_epochs=3)
    train(parse_config(experiment), tmp_path / "through", progress=False)
    experiment["data"]["num_workers"] = 1
    run_in_pieces(experiment, tmp_path / "pieces", monkeypatch, [5])
    one, two = (final_state(tmp_path / part)["state_dict"] for part in ("through", "pieces"))
    assert_equal(one, two)


def test_killed_at_any_moment(experiment: dict[str, Any], tmp_path: Path) -> None:
    """SIGKILL leaves what the last save wrote; the run continues from there to the same end."""
    experiment = with_training(experiment, max_epochs=6, checkpoint_minutes=0)
    train(parse_config(experiment), tmp_path / "through", progress=False)
    path = tmp_path / "tiny.yaml"
    path.write_text(str(parse_config(experiment).model_dump_json()))
    command = [
        sys.executable,
        "-m",
        "polsess",
        "train",
        "--config",
        str(path),
        "-o",
        str(tmp_path / "killed"),
    ]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}  # as here; sums of several are rounded otherwise
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=one_thread)
    last = tmp_path / "killed" / "checkpoints" / "last.ckpt"
    while not last.exists() and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert last.exists()
    train(parse_config(experiment), tmp_path / "killed", resume=True, progress=False)
    assert_equal(final_state(tmp_path / "killed"), final_state(tmp_path / "through"))


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)]
)
def test_the_command_exits_as_the_signal_asks(
    experiment: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: int
) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(parse_config(experiment).model_dump_json())
    arguments = ["train", "--config", str(path), "-o", str(tmp_path / "run")]
    with monkeypatch.context() as patch:
        stop_at(patch, 2, number)
        result = CliRunner().invoke(app, arguments)
    assert result.exit_code == code
    assert "continue with --resume" in result.output
    assert CliRunner().invoke(app, [*arguments, "--resume"]).exit_code == 0


def test_a_second_ctrl_c_ends_the_run_at_once_and_says_what_is_kept(
    experiment: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = TrainingModule.training_step

    def training_step(self: TrainingModule, batch: Any, batch_idx: int) -> None:
        if (self.current_epoch, batch_idx) == (1, 2):
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        original(self, batch, batch_idx)

    path = tmp_path / "tiny.yaml"
    path.write_text(parse_config(experiment).model_dump_json())
    arguments = ["train", "--config", str(path), "-o", str(tmp_path / "run")]
    with monkeypatch.context() as patch:
        patch.setattr(TrainingModule, "training_step", training_step)
        result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 130
    assert "Ended at once, without a save." in result.output
    assert final_state(tmp_path / "run")["polsess_progress"]["steps"] == STEPS_PER_EPOCH
    assert read_run(tmp_path / "run").state is RunState.STOPPED


def test_a_run_outlives_its_terminal(experiment: dict[str, Any], tmp_path: Path) -> None:
    """The bar and every message go to a terminal whose other end is closed."""
    path = tmp_path / "tiny.yaml"
    path.write_text(parse_config(experiment).model_dump_json())
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "polsess", "train", "-c", str(path), "-o", str(tmp_path / "run")]
    process = subprocess.Popen(command, stdout=theirs, stderr=theirs)
    os.close(theirs)
    os.close(ours)
    assert process.wait(timeout=240) == 0
    assert read_run(tmp_path / "run").state is RunState.FINISHED


def test_a_run_that_has_ended_early_stays_ended(experiment: dict[str, Any], tmp_path: Path) -> None:
    optimizer = {"learning_rate": 1e-30, "plateau_patience": 0}
    experiment = with_training(experiment, max_epochs=9, optimizer=optimizer, early_stopping_patience=1)
    ended = train(parse_config(experiment), tmp_path / "run", progress=False)
    assert ended.epochs < 9
    before = final_state(tmp_path / "run")
    again = train(parse_config(experiment), tmp_path / "run", resume=True, progress=False)
    assert again.epochs == ended.epochs
    assert_equal(final_state(tmp_path / "run"), before)


@pytest.mark.parametrize("accumulated", [1, 3])
def test_a_time_limit_changes_nothing_but_the_end(
    experiment: dict[str, Any], tmp_path: Path, accumulated: int
) -> None:
    """Every start has the time of its own; one after no time at all does a single step."""
    optimizer = {"learning_rate": 0.5, "plateau_patience": 0}
    experiment = with_training(
        experiment,
        max_epochs=3,
        optimizer=optimizer,
        early_stopping_patience=2,
        accumulate_batches=accumulated,
    )
    limited = parse_config(with_training(experiment, max_minutes=1e-9))
    first = train(limited, tmp_path / "run", progress=False)
    assert (first.complete, first.epochs, first.best_checkpoint) == (False, 0, None)
    assert final_state(tmp_path / "run")["polsess_progress"]["steps"] == 1
    assert read_run(tmp_path / "run").state is RunState.STOPPED
    ends: list[TrainingResult] = []
    while not ends or not ends[-1].complete:
        ends.append(train(limited, tmp_path / "run", resume=True, progress=False))
    whole = train(parse_config(experiment), tmp_path / "through", progress=False)
    assert (ends[-1].epochs, ends[-1].best_score) == (whole.epochs, whole.best_score)
    assert_equal(final_state(tmp_path / "run"), final_state(tmp_path / "through"))
    assert epochs(tmp_path / "run") == epochs(tmp_path / "through")
    assert read_run(tmp_path / "run").state is RunState.FINISHED


def test_running_means_are_saved_between_steps(
    experiment: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A group of batches that is done again must not reach the statistics of batch normalisation twice."""

    def create_with_norm(*args: Any, **kwargs: Any) -> Any:
        model: Any
        model, origin = create_trained_model(*args, **kwargs)
        original = model.estimate_sources
        model.centred = torch.nn.BatchNorm1d(1)
        model.estimate_sources = lambda mixture: original(model.centred(mixture.unsqueeze(1)).squeeze(1))
        return model, origin

    monkeypatch.setattr("polsess.training.run.create_trained_model", create_with_norm)
    experiment = with_training(experiment, max_epochs=1, accumulate_batches=2)
    train(parse_config(experiment), tmp_path / "through", progress=False)
    run_in_pieces(experiment, tmp_path / "pieces", monkeypatch, [0])
    assert_equal(final_state(tmp_path / "pieces"), final_state(tmp_path / "through"))
