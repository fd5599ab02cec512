"""What a run leaves is true: its best weights, its table, its checkpoints, its outcome."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from polsess.cli.main import app
from polsess.config import parse_config
from polsess.training.checkpointing import DamagedCheckpointError, best_score_in
from polsess.training.failures import TrainingStopped
from polsess.training.history import RunState, read_run
from polsess.training.module import TrainingModule
from polsess.training.run import TrainingResult, train
from tests.training.test_saving import LEFT

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class Killed(BaseException):
    """Stands for a process that ends here."""


def run(experiment: dict[str, Any], folder: Path, *, resume: bool = False, **training: Any) -> TrainingResult:
    config = parse_config({**experiment, "training": {**experiment["training"], **training}})
    return train(config, folder, resume=resume, progress=False, say=SAID.append)


SAID: list[str] = []


@pytest.fixture(autouse=True)
def _nothing_said() -> None:
    SAID.clear()


@pytest.fixture
def done(experiment: dict[str, Any], tmp_path: Path) -> Path:
    """The checkpoints of a run of one epoch, which is to have three."""
    run(experiment, tmp_path / "run", max_epochs=1)
    return tmp_path / "run" / "checkpoints"


def score_validations(monkeypatch: pytest.MonkeyPatch, scores: list[float]) -> None:
    """Let the validations of all runs from here on have these scores in turn."""
    left = iter(scores)
    original = TrainingModule.on_validation_epoch_end

    def on_validation_epoch_end(self: TrainingModule) -> None:
        score = next(left)
        self.scores = dict.fromkeys(self.scores, ("", (score, score)))
        original(self)

    monkeypatch.setattr(TrainingModule, "on_validation_epoch_end", on_validation_epoch_end)


def epoch_of(checkpoint: Path) -> int:
    return int(torch.load(checkpoint, weights_only=True)["polsess_progress"]["epoch"])


def test_killed_between_the_best_and_the_last_checkpoint(
    experiment: dict[str, Any], done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(experiment, tmp_path / "through", max_epochs=3)

    def kill(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", kill)
        with pytest.raises(Killed):
            run(experiment, done.parent, resume=True, max_epochs=3)
    assert (epoch_of(done / "best.ckpt"), epoch_of(done / "last.ckpt")) == (2, 1)
    result = run(experiment, done.parent, resume=True, max_epochs=3)
    assert result.best_score == best_score_in(done) == best_score_in(tmp_path / "through" / "checkpoints")


def test_killed_before_the_first_last_checkpoint(
    experiment: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", kill)
        with pytest.raises(Killed):
            run(experiment, tmp_path / "run")
    with pytest.raises(FileExistsError, match="holds a run already"):
        run(experiment, tmp_path / "run")
    assert run(experiment, tmp_path / "run", resume=True).epochs == 2


def test_a_score_that_is_not_finite_is_never_the_best(
    experiment: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    score_validations(monkeypatch, [2.0, math.nan, 1.0, math.inf])
    result = run(experiment, tmp_path / "run", max_epochs=4)
    assert result.best_score == 2.0
    assert epoch_of(tmp_path / "run" / "checkpoints" / "best.ckpt") == 1


@pytest.mark.parametrize("content", [None, b"text", "of an earlier best"])
def test_best_weights_that_are_lost_are_said_and_the_next_best_is_kept(
    experiment: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: bytes | str | None,
) -> None:
    score_validations(monkeypatch, [1.0, 4.0, 3.0, 2.0])
    best = tmp_path / "run" / "checkpoints" / "best.ckpt"
    run(experiment, tmp_path / "run", max_epochs=1)
    earlier = best.read_bytes()
    run(experiment, tmp_path / "run", resume=True, max_epochs=2)
    if content is None:
        best.unlink()
    else:
        best.write_bytes(content if isinstance(content, bytes) else earlier)
    SAID.clear()
    result = run(experiment, tmp_path / "run", resume=True, max_epochs=4)
    assert any("the weights of the best validation (4.00 dB) are lost" in line for line in SAID)
    assert result.best_score == best_score_in(best.parent) == 3.0


def test_a_finished_run_without_its_best_weights_is_no_success(
    experiment: dict[str, Any], done: Path
) -> None:
    (done / "best.ckpt").unlink()
    with pytest.raises(TrainingStopped, match="there are no best weights"):
        run(experiment, done.parent, resume=True, max_epochs=1)
    assert read_run(done.parent).state is RunState.FAILED


def test_a_run_without_a_finite_score_is_no_success(
    experiment: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    score_validations(monkeypatch, [math.nan, math.nan])
    with pytest.raises(TrainingStopped, match="no validation had a finite score"):
        run(experiment, tmp_path / "run")
    assert read_run(tmp_path / "run").state is RunState.FAILED


def test_a_run_that_leaves_out_most_of_an_epoch_ends(experiment: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(TrainingStopped, match=r"75% of the epoch's steps were left out .*learning_rate"):
        run(experiment, tmp_path / "run", optimizer={"learning_rate": 1e38})
    assert (tmp_path / "run" / "replay.pt").is_file()
    assert read_run(tmp_path / "run").state is RunState.FAILED


def test_a_batch_larger_than_the_corpus_is_refused(experiment: dict[str, Any], tmp_path: Path) -> None:
    experiment["data"]["batch_size"] = 17
    path = tmp_path / "a.yaml"
    path.write_text(str(experiment))
    for option in ("--dry-run", "--quiet"):
        result = CliRunner().invoke(app, ["train", "-c", str(path), "-o", str(tmp_path / "run"), option])
        assert result.exit_code == 2
        assert "data.batch_size: 16 training examples make no batch of 17" in " ".join(result.output.split())
    experiment["data"]["batch_size"] = 9
    with pytest.raises(ValueError, match="16 training examples make no batch of 9 for each of 2 processes"):
        run(experiment, tmp_path / "run", devices=2, device="cpu")
    assert not (tmp_path / "run").exists()


def flip(content: bytes) -> bytes:
    """With two bytes of the weights changed."""
    middle = len(content) // 2
    return (
        content[:middle] + bytes(255 - byte for byte in content[middle : middle + 2]) + content[middle + 2 :]
    )


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda content: content[: len(content) // 2],
    "empty": lambda _: b"",
    "text": lambda _: b"<html>not found</html>",
    "flipped": flip,
    "end cut": lambda content: content[:-10],
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_checkpoint_is_refused_with_what_is_whole(
    experiment: dict[str, Any], done: Path, damage: Callable[[bytes], bytes]
) -> None:
    last, best = done / "last.ckpt", done / "best.ckpt"
    last.write_bytes(damage(last.read_bytes()))
    with pytest.raises(
        DamagedCheckpointError, match=r"last\.ckpt: .*remove last.ckpt, and --resume continues"
    ):
        run(experiment, done.parent, resume=True, max_epochs=2)
    whole = best.read_bytes()
    best.write_bytes(damage(whole))
    with pytest.raises(DamagedCheckpointError, match=r"last\.ckpt: .*is damaged, too: begin a new run"):
        run(experiment, done.parent, resume=True, max_epochs=2)
    best.write_bytes(whole)
    last.unlink()  # as advised
    assert run(experiment, done.parent, resume=True, max_epochs=2).epochs == 2


def test_weights_that_are_not_finite_are_not_resumed(experiment: dict[str, Any], done: Path) -> None:
    content = torch.load(done / "last.ckpt", weights_only=True)
    content["state_dict"]["model.to_masks.bias"][0] = math.nan
    torch.save(content, done / "last.ckpt")
    with pytest.raises(
        DamagedCheckpointError, match=r"last.ckpt: the weights to_masks.bias are not finite.*best"
    ):
        run(experiment, done.parent, resume=True, max_epochs=2)


TABLES: dict[str, Callable[[list[str]], str | None]] = {
    "cut": lambda lines: "\n".join(lines[:-1]) + "\n",
    "doubled": lambda lines: "\n".join([*lines, lines[-1]]) + "\n",
    "emptied": lambda _: "",
    "deleted": lambda _: None,
    "garbled": lambda lines: "\n".join([*lines[:-1], "x" + lines[-1]]),
    "not text": lambda _: "\x00\udcff",
}


@pytest.mark.parametrize("change", TABLES.values(), ids=TABLES)
def test_a_changed_table_is_restored_from_the_checkpoint(
    experiment: dict[str, Any], tmp_path: Path, change: Callable[[list[str]], str | None]
) -> None:
    run(experiment, tmp_path / "run", max_epochs=2)
    table = tmp_path / "run" / "metrics.csv"
    before = table.read_text()
    changed = change(before.splitlines())
    if changed is None:
        table.unlink()
    else:
        table.write_bytes(changed.encode(errors="surrogateescape"))
    assert read_run(tmp_path / "run").state is RunState.DAMAGED
    SAID.clear()
    run(experiment, tmp_path / "run", resume=True, max_epochs=3)
    assert any("its 2 epochs are restored" in line for line in SAID)
    assert table.read_text().startswith(before)
    assert len(table.read_text().splitlines()) == 4
    assert read_run(tmp_path / "run").state is RunState.FINISHED


def test_halves_that_killed_processes_left_are_removed(experiment: dict[str, Any], done: Path) -> None:
    for name in (LEFT, f"checkpoints/{LEFT}"):
        (done.parent / name).write_text("half")
    run(experiment, done.parent, resume=True, max_epochs=1)
    assert not [path for path in done.parent.rglob(".*") if path.is_file()]
