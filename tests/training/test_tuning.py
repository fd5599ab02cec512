"""A search finds the good value, prunes the bad ones, and goes on where it was stopped."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import polsess.dependencies
from polsess.cli.main import app
from polsess.config import load_config
from polsess.folder_lock import FolderInUseError
from polsess.schema import ConfigError
from polsess.training import tuning
from polsess.training.module import TrainingModule
from polsess.training.search_space import load_space
from polsess.training.tuning import tune

pytest.importorskip("optuna")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
RATE, SIZE = "training.optimizer.learning_rate", "model.hidden_size"


@pytest.fixture
def space(experiment: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    experiment["data"]["corpus"] |= {
        "segment_seconds": 0.1,
        "examples_per_epoch": 8,
        "evaluation_examples": 1,
    }
    (tmp_path / "base.yaml").write_text(json.dumps(experiment))
    ranges = {RATE: {"low": 1e-5, "high": 1e-1, "log": True}, SIZE: {"choices": [8, 16]}}
    return {"config": "base.yaml", "trials": 4, "search": ranges}


def write(tmp_path: Path, space: dict[str, Any]) -> Path:
    (tmp_path / "space.yaml").write_text(json.dumps(space))
    return tmp_path / "space.yaml"


def fake_training(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Runs that cost nothing: the nearer the rate is to 0.01, the better; returns the rates."""
    from math import log10

    rates = []

    def train(config: Any, run_folder: Path, *, after_epoch: Any, **_: Any) -> None:
        rate = config.training.optimizer.learning_rate
        rates.append(rate)
        run_folder.mkdir()
        for epoch in range(6):
            after_epoch(epoch, epoch - abs(log10(rate) + 2))

    monkeypatch.setattr(tuning, "train", train)
    return rates


def test_the_command_searches_and_its_best_can_be_trained(space: dict[str, Any], tmp_path: Path) -> None:
    space["trials"] = 2
    out = tmp_path / "search"
    arguments = ["tune", str(write(tmp_path, space)), "training.max_epochs=1", "-o", str(out)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "2 trials, 0 pruned, 0 failed" in result.output
    best = load_config(out / "best.yaml")
    assert best.training.max_epochs == 1
    values = [json.loads((out / f"trial-00{n}" / "config.json").read_text()) for n in (0, 1)]
    assert best.training.optimizer.learning_rate in [
        v["training"]["optimizer"]["learning_rate"] for v in values
    ]
    assert all(value["seed"] == 0 for value in values)
    again = CliRunner().invoke(app, arguments)  # all is done: nothing is trained again
    assert again.exit_code == 0
    other = CliRunner().invoke(app, [*arguments, "seed=1"])
    assert other.exit_code == 2
    assert "holds a search of other ranges or another experiment" in other.output


def test_better_values_are_found_and_bad_trials_pruned(
    space: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = fake_training(monkeypatch)
    space |= {"trials": 25, "pruning": {"startup_trials": 3, "warmup_epochs": 1}}
    epochs: list[tuple[int, int]] = []
    result = tune(
        *load_space(write(tmp_path, space)),
        tmp_path / "search",
        on_epoch=lambda number, epoch, _: epochs.append((number, epoch)),
    )
    states = [trial.state for trial in result.trials]
    assert states.count("pruned") >= 3
    assert {number for number, _ in epochs} == set(range(25))
    assert all((number, epoch - 1) in epochs for number, epoch in epochs if epoch)
    assert states[:3] == ["complete"] * 3
    assert 0.003 < result.best.values[RATE] < 0.03
    assert result.best.score == max(
        trial.score or 0.0 for trial in result.trials if trial.state == "complete"
    )
    assert len(rates) == 25


def test_a_search_in_pieces_tries_the_same(
    space: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_training(monkeypatch)
    space["trials"] = 8
    through = tune(*load_space(write(tmp_path, space)), tmp_path / "through")
    space["trials"] = 3
    tune(*load_space(write(tmp_path, space)), tmp_path / "pieces")
    space["trials"] = 8
    with monkeypatch.context() as patch:
        killed = tuning._clear

        def die_at_the_fifth(run: Path) -> None:
            killed(run)
            if run.name == "trial-005":
                raise KeyboardInterrupt  # the process is gone; the trial stays open in the file

        patch.setattr(tuning, "_clear", die_at_the_fifth)
        with pytest.raises(KeyboardInterrupt):
            tune(*load_space(write(tmp_path, space)), tmp_path / "pieces")
    pieces = tune(*load_space(write(tmp_path, space)), tmp_path / "pieces")
    assert [trial.values for trial in pieces.trials] == [trial.values for trial in through.trials]
    assert [trial.number for trial in pieces.trials] == list(range(8))


def test_a_trial_that_fails_is_told_and_the_search_goes_on(
    space: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(config: Any, _folder: Path, *, after_epoch: Any, **_: Any) -> None:
        if config.model.hidden_size == 16:
            raise RuntimeError("out of\nmemory")
        after_epoch(0, 1.0)

    monkeypatch.setattr(tuning, "train", train)
    space["search"] = {SIZE: {"choices": [8, 16]}}
    space["trials"] = 8
    result = tune(*load_space(write(tmp_path, space)), tmp_path / "search")
    failed = [trial for trial in result.trials if trial.state == "failed"]
    assert 0 < len(failed) < 8
    assert failed[0].remark == "out of memory"
    assert result.best.values == {SIZE: 8}
    space["search"] = {SIZE: {"choices": [16]}}
    with pytest.raises(RuntimeError, match="no trial came to an end; the first: out of memory"):
        tune(*load_space(write(tmp_path, space)), tmp_path / "other")


def test_a_signal_ends_the_search_and_it_goes_on(
    space: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space["trials"] = 1
    arguments = ["tune", str(write(tmp_path, space)), "-o", str(tmp_path / "search")]
    with monkeypatch.context() as patch:
        original = TrainingModule.training_step

        def training_step(self: TrainingModule, batch: Any, batch_idx: int) -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            original(self, batch, batch_idx)

        patch.setattr(TrainingModule, "training_step", training_step)
        stopped = CliRunner().invoke(app, arguments)
    assert stopped.exit_code == 143, stopped.output
    assert "the same command goes on with the search" in stopped.output
    assert CliRunner().invoke(app, arguments).exit_code == 0


def test_a_study_that_cannot_be_read_is_named(space: dict[str, Any], tmp_path: Path) -> None:
    settings, base = load_space(write(tmp_path, space))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "study.db").write_bytes(b"no data base at all")
    with pytest.raises(RuntimeError, match=r"study\.db: the study cannot .*file is not a database.*goes on"):
        tune(settings, base, tmp_path / "out")


def test_a_second_search_in_the_folder_is_refused_and_fails_no_trial(
    space: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_training(monkeypatch)
    settings, base = load_space(write(tmp_path, space))

    def on_epoch(number: int, epoch: int, score: float) -> None:
        del number, score
        if epoch == 0:
            with pytest.raises(FolderInUseError, match="in use by polsess tune"):
                tune(settings, base, tmp_path / "out")

    result = tune(settings, base, tmp_path / "out", on_epoch=on_epoch)
    assert "failed" not in [trial.state for trial in result.trials]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"search": {"training.optimizer.rate": {"low": 0.1, "high": 1.0}}},
            "search.training.optimizer.rate",
        ),
        ({"search": {SIZE: {"low": 1}}}, rf"search\.{SIZE}: expected choices: \[...\], or low and high"),
        ({"search": {SIZE: {"low": 3, "high": 2}}}, "low must be less than high, got 3 and 2"),
        ({"search": {RATE: {"low": 0.0, "high": 1.0, "log": True}}}, "log needs low > 0 and no step"),
        ({"search": {SIZE: {"choices": [8], "low": 1}}}, "choices stand alone"),
        ({"search": {SIZE: {"choices": []}}}, rf"search\.{SIZE}\.choices"),
        ({"search": {SIZE: {"choices": [8, "many"]}}}, f"search.{SIZE}: 'many' does not fit the experiment"),
        ({"search": {SIZE: {"low": -4, "high": 8}}}, f"search.{SIZE}: -4 does not fit"),
        (
            {"search": {"training.max_epochs.x": {"choices": [1]}}},
            "x: 'max_epochs' is a value, not a section",
        ),
        ({"search": {}}, "search: "),
        ({"search": {SIZE: {"lo": 1, "high": 2}}}, "Did you mean 'low'"),
        ({"trails": 3}, "Did you mean 'trials'"),
        ({"config": "none.yaml"}, "none.yaml: no such file"),
    ],
)
def test_bad_spaces_name_the_key(
    space: dict[str, Any], tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load_space(write(tmp_path, {**space, **change}))


def test_several_processes_are_refused(space: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a search trains in one process"):
        load_space(write(tmp_path, space), ["training.devices=2"])


def test_a_missing_optuna_names_its_extra(
    space: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polsess.dependencies, "is_installed", lambda package: package != "optuna")
    result = CliRunner().invoke(app, ["tune", str(write(tmp_path, space))])
    assert result.exit_code == 1
    assert "pip install -e '.[hpo]'" in result.output


def test_scores_that_are_not_finite_fail_their_trial_only(
    space: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([[float("nan")], [float("nan"), 1.0, float("nan")], [2.0]])

    def train(_config: Any, _folder: Path, *, after_epoch: Any, **_: Any) -> None:
        for epoch, score in enumerate(next(scores)):
            after_epoch(epoch, score)

    monkeypatch.setattr(tuning, "train", train)
    result = tune(*load_space(write(tmp_path, {**space, "trials": 3})), tmp_path / "search")
    assert [(trial.state, trial.score) for trial in result.trials] == [
        ("failed", None),
        ("complete", 1.0),
        ("complete", 2.0),
    ]
    assert "no validation score was finite" in result.trials[0].remark


def test_where_less_is_better_the_least_is_the_best(
    space: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = json.loads((tmp_path / "base.yaml").read_text())
    corpus = {key: experiment["data"]["corpus"][key] for key in ("metadata",)}
    experiment["data"]["corpus"] = {"corpus_type": "single_speakers", **corpus}
    experiment |= {"task": "SV", "model": {"model_type": "tdnn", "preset": "tiny"}}
    (tmp_path / "base.yaml").write_text(json.dumps(experiment))
    errors = iter([30.0, 10.0, 20.0])

    def train(_config: Any, run_folder: Path, *, after_epoch: Any, **_: Any) -> None:
        run_folder.mkdir()
        after_epoch(0, next(errors))

    monkeypatch.setattr(tuning, "train", train)
    path = write(tmp_path, {**space, "trials": 3, "search": {RATE: space["search"][RATE]}})
    shown = CliRunner().invoke(app, ["tune", str(path), "-o", str(tmp_path / "search")])
    assert shown.exit_code == 0, shown.output
    assert "Best: trial 1: 10.00 % (complete" in shown.output
    assert "EER 10.00 % on validation" in (tmp_path / "search" / "best.yaml").read_text()
