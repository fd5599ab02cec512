"""A checkpoint is whole or not there: killed in the middle of saving, or on a full disk."""

from __future__ import annotations

import errno
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from polsess import publication
from polsess.config import parse_config
from polsess.folder_lock import FolderInUseError, locked
from polsess.training.checkpointing import AtomicCheckpointIO
from polsess.training.run import train

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

LEFT = f".polsess-{publication._HOST}-{2**22 + 1}-abc.ckpt"
"""A hidden file of a process that no system numbers so high."""


def saved(path: Path) -> int:
    """The number of a checkpoint, after seeing that every value of it belongs to that number."""
    content = AtomicCheckpointIO().load_checkpoint(path)
    assert bool((content["weights"] == content["number"]).all())
    return int(content["number"])


def kill_while_saving(path: Path, times: int, random_source: random.Random) -> None:
    """Let a process save without pause, kill it at a random moment, read what is there, and again.

    A process that is killed takes its whole group along: one fork of a warm process per kill keeps this fast.
    """
    number, hits = 0, 0
    for _ in range(times):
        child = os.fork()
        if child == 0:
            try:
                while True:
                    number += 1
                    weights = torch.full((300_000,), number)
                    AtomicCheckpointIO().save_checkpoint({"number": number, "weights": weights}, path)
            finally:
                os._exit(1)
        while not path.exists():
            time.sleep(0.001)
        time.sleep(random_source.uniform(0.0, 0.05))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        hits += any(path.parent.glob(".polsess-*"))  # a temporary file, which the next process removes
        after = saved(path)
        assert after >= number
        number = after
    assert hits, "no kill hit a save: the test proves nothing"


def check_kills(tmp_path: Path, times: int) -> None:
    script = f"""
import random, sys, torch
from pathlib import Path
torch.set_num_threads(1)
from tests.training.test_saving import kill_while_saving
kill_while_saving(Path(sys.argv[1]), {times}, random.Random(0))
"""
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", script, str(tmp_path / "last.ckpt")]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr


def test_killed_while_saving_a_few_times(tmp_path: Path) -> None:
    check_kills(tmp_path, 10)


@pytest.mark.slow
def test_killed_while_saving_two_hundred_times(tmp_path: Path) -> None:
    check_kills(tmp_path, 200)


@pytest.mark.parametrize("fails", ["write", "fsync", "replace"])
def test_a_full_disk_ends_the_run_and_keeps_the_last_good_checkpoint(
    experiment: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    """Whatever call reports it: writing, flushing or renaming."""
    train(parse_config(with_epochs(experiment, 1)), tmp_path / "run", progress=False)
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    before = last.read_bytes()

    def full(original: Any) -> Any:
        def call(file: int | Path, *rest: Any) -> Any:
            name = str(Path(f"/proc/self/fd/{file}").readlink() if isinstance(file, int) else file)
            if name.endswith(".ckpt"):
                raise OSError(errno.ENOSPC, "No space left on device")
            return original(file, *rest)

        return call

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    if fails == "write":  # the system's own refusal, in the middle of the file
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))
    elif fails == "fsync":
        monkeypatch.setattr(os, "fsync", full(os.fsync))
    else:
        monkeypatch.setattr(Path, "replace", full(Path.replace))
    try:
        with pytest.raises(
            OSError, match=r"(last|best).ckpt: the checkpoint could not be written \(.*continue with --res"
        ):
            train(parse_config(with_epochs(experiment, 3)), tmp_path / "run", resume=True, progress=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    monkeypatch.undo()
    assert last.read_bytes() == before
    assert not [path for path in last.parent.iterdir() if path.name.startswith(".")]
    (last.parent / LEFT).write_bytes(b"half of a checkpoint, left by a killed process")
    result = train(parse_config(with_epochs(experiment, 2)), tmp_path / "run", resume=True, progress=False)
    assert result.epochs == 2
    assert sorted(path.name for path in last.parent.iterdir()) == ["best.ckpt", "last.ckpt"]


def with_epochs(experiment: dict[str, Any], number: int) -> dict[str, Any]:
    return {**experiment, "training": {**experiment["training"], "max_epochs": number}}


def test_a_run_beside_a_living_one_is_refused_and_disturbs_nothing(
    experiment: dict[str, Any], tmp_path: Path
) -> None:
    config = parse_config(with_epochs(experiment, 1))
    with (
        locked(tmp_path / "run", "polsess train"),
        pytest.raises(FolderInUseError, match="in use by polsess train on"),
    ):
        train(config, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()
    train(config, tmp_path / "run", progress=False)
    half = tmp_path / "run" / "checkpoints" / LEFT
    half.write_bytes(b"what the living run is writing")
    files = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    with (
        locked(tmp_path / "run", "polsess train"),
        pytest.raises(FolderInUseError, match="in use by polsess train on"),
    ):
        train(parse_config(with_epochs(experiment, 2)), tmp_path / "run", resume=True, progress=False)
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == files
