"""What goes wrong with the data in the middle of a run: the file or the process is named, the run is kept."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import get_worker_info

from polsess.config import Config, parse_config
from polsess.data import Example, LoadingError
from polsess.data.polsess import PolSESS
from polsess.training.failures import TrainingStopped
from polsess.training.run import train
from tests.conftest import DATA

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def config(tmp_path: Path) -> Config:
    shutil.copytree(DATA / "polsess_mini", tmp_path / "corpus")
    corpus = {"corpus_type": "polsess", "root": str(tmp_path / "corpus"), "segment_seconds": 0.5}
    return parse_config(
        {
            "model": {"model_type": "blstm", "preset": "tiny"},
            "data": {"corpus": corpus, "batch_size": 2, "num_workers": 1},
            "training": {"max_epochs": 3, "device": "cpu"},
        }
    )


def cut_off(folder: Path) -> None:
    for path in folder.glob("*.wav"):
        path.write_bytes(path.read_bytes()[:-200])


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_file_that_is_damaged_meanwhile_is_named(config: Config, tmp_path: Path, num_workers: int) -> None:
    data = config.data.model_copy(update={"num_workers": num_workers})
    with pytest.raises(TrainingStopped) as stopped:
        train(
            config.model_copy(update={"data": data}),
            tmp_path / "run",
            progress=False,
            after_epoch=lambda *_: cut_off(tmp_path / "corpus/train/clean"),
        )
    message = str(stopped.value)
    assert message.startswith(str(tmp_path / "corpus/train/clean"))
    assert "is cut off" in message
    assert "of split train, epoch 1)" in message
    last = tmp_path / "run/checkpoints/last.ckpt"
    assert message.endswith(f"{last} is kept: continue with --resume.")
    assert "\n" not in message
    assert last.is_file()


# The loader meets the dead worker once more, in torch, when it is taken down.
@pytest.mark.filterwarnings(
    "ignore:.*_MultiProcessingDataLoaderIter.__del__:pytest.PytestUnraisableExceptionWarning"
)
def test_a_worker_that_is_killed_is_named(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = PolSESS.example

    def example(self: PolSESS, epoch: int, index: int) -> Example:
        if epoch == 1 and get_worker_info() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(self, epoch, index)

    monkeypatch.setattr(PolSESS, "example", example)
    with pytest.raises(TrainingStopped, match=r"^DataLoader worker \(pid.*\d+\).*(killed|exited)") as stopped:
        train(config, tmp_path / "run", progress=False)
    assert "last.ckpt is kept: continue with --resume." in str(stopped.value)
    monkeypatch.setattr(PolSESS, "example", original)
    assert train(config, tmp_path / "run", resume=True, progress=False).epochs == 3


def test_an_error_from_a_worker_is_one_line() -> None:
    inner = "Caught LoadingError in DataLoader worker.\nTraceback\npolsess.x.LoadingError: a.wav: bad\n"
    assert str(LoadingError(inner)) == "a.wav: bad"
    assert not isinstance(LoadingError("x"), (ValueError, OSError))


def test_other_errors_pass(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def example(*_: Any) -> Example:
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(PolSESS, "example", example)
    data = config.data.model_copy(update={"num_workers": 0})
    with pytest.raises(RuntimeError, match="a mistake of ours"):
        train(config.model_copy(update={"data": data}), tmp_path / "run", progress=False)
