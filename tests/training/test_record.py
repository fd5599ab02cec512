"""What is written down beside a run, and what a resumed run may not change."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from polsess.config import parse_config
from polsess.data import Split, create_corpus, parse_corpus_config
from polsess.schema import ConfigError
from polsess.tasks import Task
from polsess.training import record
from polsess.training.module import TrainingModule
from polsess.training.record import ChangedDataError, RunRecord
from polsess.training.run import train
from polsess.training.signals import Preempted

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def run(experiment: dict[str, Any], folder: Path, *, resume: bool = False, **training: Any) -> list[str]:
    said: list[str] = []
    config = parse_config({**experiment, "training": {**experiment["training"], **training}})
    train(config, folder, resume=resume, progress=False, say=said.append)
    return said


def starts(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "environment.json").read_text())["starts"]


def test_every_start_is_written_down(experiment: dict[str, Any], tmp_path: Path) -> None:
    run(experiment, tmp_path / "run", max_epochs=1)
    said = run(experiment, tmp_path / "run", resume=True, max_epochs=2, log_every_steps=1)
    assert said == [
        "Changed since the run was stopped: training.max_epochs 1 -> 2, training.log_every_steps 20 -> 1."
    ]
    first, second = starts(tmp_path / "run")
    assert first["outcome"] == second["outcome"] == "completed"
    assert first["started"] <= first["ended"] <= second["started"]
    assert first["resumed_at"] is None
    assert second["resumed_at"] == {"epoch": 1, "batches": 0, "steps": 4}
    assert second["changes"]["training.max_epochs"] == [1, 2]
    assert first["data"] == second["data"]
    assert first["data"]["train"]["examples"] == 16
    assert first["data"]["train"]["fingerprint"] != first["data"]["val"]["fingerprint"]
    assert first["packages"]["torch"]
    assert {"command", "code", "python", "platform", "processor", "threads"} <= first.keys()


def test_how_a_start_ended(
    experiment: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = TrainingModule.training_step

    def training_step(self: TrainingModule, batch: Any, batch_idx: int) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        assert starts(tmp_path / "run")[0]["outcome"] == "running"
        original(self, batch, batch_idx)

    monkeypatch.setattr(TrainingModule, "training_step", training_step)
    with pytest.raises(Preempted):
        run(experiment, tmp_path / "run")
    assert starts(tmp_path / "run")[0]["outcome"].startswith("Preempted: Stopped by SIGTERM")


@pytest.mark.parametrize(
    ("section", "change"),
    [
        ("model", {"hidden_size": 9}),
        ("data", {"batch_size": 2}),
        ("training", {"freeze": ["rnn.*"]}),
        ("training", {"ema_decay": 0.9}),
    ],
)
def test_what_a_run_rests_on_may_not_change(
    experiment: dict[str, Any], tmp_path: Path, section: str, change: dict[str, Any]
) -> None:
    run(experiment, tmp_path / "run", max_epochs=1)
    experiment[section] |= change
    (name,) = change
    with pytest.raises(ConfigError, match=rf"{section}.{name} was .* cannot be resumed .*--init"):
        run(experiment, tmp_path / "run", resume=True)


def test_other_data_is_refused_and_moved_data_is_not(experiment: dict[str, Any], tmp_path: Path) -> None:
    run(experiment, tmp_path / "run", max_epochs=1)
    corpus = experiment["data"]["corpus"]
    moved = tmp_path / "moved"
    moved.mkdir()
    for path in [*tmp_path.glob("*.wav"), Path(corpus["metadata"])]:
        path.rename(moved / path.name)
    corpus["metadata"] = str(moved / "metadata.csv")
    said = run(experiment, tmp_path / "run", resume=True, max_epochs=1)
    assert said == ["Nothing was left to train: the run had ended (epochs: 1)."]
    clip = moved / "train0.wav"
    clip.write_bytes(clip.read_bytes() + bytes(8))
    with pytest.raises(ChangedDataError, match=r"the train split has 16 examples .*--init"):
        run(experiment, tmp_path / "run", resume=True, max_epochs=3)


def test_the_fingerprint_follows_names_order_and_sizes(experiment: dict[str, Any], tmp_path: Path) -> None:
    config = parse_corpus_config(experiment["data"]["corpus"])

    def fingerprint() -> str:
        return create_corpus(config, Split.VAL, Task.SB).fingerprint()

    before, table = fingerprint(), Path(experiment["data"]["corpus"]["metadata"])
    assert fingerprint() == before
    (tmp_path / "val3.wav").rename(tmp_path / "other.wav")
    table.write_text(table.read_text().replace("val3.wav", "other.wav"))
    renamed = fingerprint()
    assert renamed != before
    content = (tmp_path / "other.wav").read_bytes()
    (tmp_path / "other.wav").write_bytes(content + bytes(8))
    assert fingerprint() not in (before, renamed)


def test_a_section_that_opens_is_a_change(experiment: dict[str, Any], tmp_path: Path) -> None:
    """What was null before has keys of its own now."""
    run(experiment, tmp_path / "run", max_epochs=1)
    said = run(experiment, tmp_path / "run", resume=True, max_epochs=1, loss={"spectral": {"weight": 5.0}})
    assert "training.loss.spectral.weight None -> 5.0" in said[0]
    experiment["data"]["corpus"]["rooms"] = {}
    with pytest.raises(ConfigError, match=r"data\.corpus\.rooms\.\w+ was None, is .*cannot be resumed"):
        run(experiment, tmp_path / "run", resume=True)


def test_the_error_of_a_run_is_told_where_its_record_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError("No space left on device")

    def fail() -> None:
        with RunRecord(tmp_path).start():
            monkeypatch.setattr(record, "write_text", full)
            raise RuntimeError("the checkpoint could not be written")

    with pytest.raises(RuntimeError, match="the checkpoint could not be written"):
        fail()
