"""What goes wrong with the data in the middle of a run: the file or the process is named, the run is kept."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import get_worker_info

from polsess.config import Config, parse_config
from polsess.data import Example, LoadingError
from polsess.data.polsess import PolSESS
from polsess.training.failures import TrainingStopped, workers_ended
from polsess.training.run import train
from polsess.training.signals import Preempted
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
    assert "of split train, epoch 2)" in message
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


def fail_at_the_second_epoch(monkeypatch: pytest.MonkeyPatch, fail: Callable[[], None]) -> None:
    original = PolSESS.example

    def example(self: PolSESS, epoch: int, index: int) -> Example:
        if epoch == 1:
            fail()
        return original(self, epoch, index)

    monkeypatch.setattr(PolSESS, "example", example)


def raise_for_shared_memory() -> None:
    raise RuntimeError("unable to write to file </torch_7_1_0>: No space left on device (28)")


def raise_for_a_damaged_file() -> None:
    raise ValueError("a.wav: is cut off")


def raise_another() -> None:
    raise RuntimeError("a mistake of ours")


@pytest.mark.filterwarnings(
    "ignore:.*_MultiProcessingDataLoaderIter.__del__:pytest.PytestUnraisableExceptionWarning"
)
@pytest.mark.parametrize(
    ("fail", "error", "message"),
    [
        (raise_for_a_damaged_file, TrainingStopped, "a.wav: is cut off"),
        (raise_for_shared_memory, TrainingStopped, r"shared memory \(/dev/shm\) has run out"),
        (raise_another, RuntimeError, "a mistake of ours"),
        (
            lambda: os.kill(os.getpid(), signal.SIGBUS),
            TrainingStopped,
            r"^DataLoader worker.*shared memory \(/dev/shm\)",
        ),
        (lambda: os.kill(os.getppid(), signal.SIGTERM), Preempted, "Stopped by SIGTERM"),
        (lambda: None, None, ""),
    ],
    ids=["damaged file", "no shared memory", "our mistake", "bus error", "signal", "none"],
)
def test_no_worker_outlives_the_run(
    config: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fail: Callable[[], None],
    error: type[Exception] | None,
    message: str,
) -> None:
    fail_at_the_second_epoch(monkeypatch, fail)
    config = config.model_copy(update={"data": config.data.model_copy(update={"num_workers": 2})})
    handler = signal.getsignal(signal.SIGCHLD)
    with pytest.raises(error, match=message) if error else nullcontext():
        train(config, tmp_path / "run", progress=False)
    assert multiprocessing.active_children() == []
    assert handler is signal.SIG_DFL or signal.getsignal(signal.SIGCHLD) is handler


def test_processes_of_the_caller_are_left_alone() -> None:
    process = multiprocessing.get_context("fork").Process(target=signal.pause)
    process.start()
    with workers_ended():
        started = multiprocessing.get_context("fork").Process(target=ignore_everything)
        started.start()
    assert not started.is_alive()
    assert process.is_alive()
    process.kill()
    process.join()


def ignore_everything() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        signal.pause()


def test_the_command_exits_after_a_damaged_file(config: Config, tmp_path: Path) -> None:
    """Python waits for children at its exit."""
    path, run = tmp_path / "a.json", tmp_path / "run"
    path.write_text(config.model_dump_json())
    cut_off(tmp_path / "corpus/train/clean")
    command = [
        sys.executable,
        "-m",
        "polsess",
        "train",
        "-c",
        str(path),
        "-o",
        str(run),
        "data.num_workers=2",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 1
    assert "is cut off" in done.stderr
