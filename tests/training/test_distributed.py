"""Two processes on CPU, started by torchrun, train what one process trains with the doubled batch."""

from __future__ import annotations

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from polsess.cli.main import app
from polsess.config import TrainingConfig, parse_config
from polsess.data.loader import EpochSampler
from polsess.schema import ConfigError
from polsess.training import distributed
from polsess.training.distributed import create_strategy
from polsess.training.failures import TrainingStopped, loading_explained
from polsess.training.run import train

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
SCRIPT = Path(__file__).with_name("recording_train.py")


def launch(folder: Path, experiment: dict[str, Any], *arguments: str, stop: str = "-") -> str:
    """Run the recording command in two processes, as a user's torchrun would; returns what it printed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={port}"]
    return start(torchrun, folder, experiment, "training.devices=2", *arguments, stop=stop)


def start(
    launcher: list[str], folder: Path, experiment: dict[str, Any], *arguments: str, stop: str = "-"
) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "tiny.yaml").write_text(json.dumps(experiment))
    train = ["train", "-c", str(folder / "tiny.yaml"), "-o", str(folder / "run"), "training.device=cpu"]
    command = [sys.executable, *launcher, str(SCRIPT), str(folder), stop, *train, *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=250)
    return done.stdout + done.stderr


def records(folder: Path, kind: str) -> list[list[list[Any]]]:
    return [
        [json.loads(line) for line in path.read_text().splitlines()]
        for path in sorted(folder.glob(f"{kind}[0-9].jsonl"))
    ]


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "run" / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def last(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "run" / "checkpoints" / "last.ckpt", weights_only=True)


def mean_losses(folder: Path) -> list[float]:
    """The loss of every step, over all processes."""
    return [sum(row[1] for row in rows) / len(rows) for rows in zip(*records(folder, "train"), strict=True)]


@pytest.fixture
def shared(experiment: dict[str, Any]) -> dict[str, Any]:
    """An experiment without dropout, whose 16 examples make four steps of two times two; five to validate."""
    experiment["model"] = {"model_type": "convtasnet", "preset": "tiny"}
    experiment["data"]["corpus"] |= {"segment_seconds": 0.2, "evaluation_examples": 5}
    experiment["data"]["batch_size"] = 2
    return experiment


def doubled(experiment: dict[str, Any]) -> dict[str, Any]:
    return {**experiment, "data": {**experiment["data"], "batch_size": 4}}


def test_two_processes_are_one_with_the_doubled_batch(shared: dict[str, Any], tmp_path: Path) -> None:
    shared["training"]["optimizer"] |= {"name": "adamw", "weight_decay": 0.1}
    shared["training"]["gradient_clip_norm"] = 0.5
    one, two = tmp_path / "one", tmp_path / "two"
    assert "best SI-SNRi" in start([], one, doubled(shared))
    printed = launch(two, shared, "training.strategy=ddp")
    assert printed.count("best SI-SNRi on validation") == 1, printed  # only one process speaks
    assert mean_losses(two) == pytest.approx(mean_losses(one), abs=1e-3)  # dB, at every step
    assert len(mean_losses(two)) == 8
    steps = [[key for row in rows for key in row[0]] for rows in zip(*records(two, "train"), strict=True)]
    assert [sorted(keys) for keys in steps] == [sorted(row[0]) for row in records(one, "train")[0]]
    for epoch in (0, 1):  # no example twice, none missed
        seen = [key for keys in steps for key in keys if key[0] == epoch]
        assert sorted(key[1] for key in seen) == list(range(16))
    validated = [row for rows in records(two, "val") for row in rows]
    assert {keys[0][1] for keys, _ in validated} == set(
        range(5)
    )  # five do not divide by two: one comes again
    for rows in zip(table(one), table(two), strict=True):
        for name in ("val_si_snr", "val_si_snri", "train_loss"):
            assert float(rows[1][name]) == pytest.approx(float(rows[0][name]), abs=2e-3)
    weights = [last(folder)["state_dict"] for folder in (one, two)]
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=1e-3, atol=2e-4)


def test_a_signal_to_one_process_saves_once_and_the_run_resumes_exactly(
    shared: dict[str, Any], tmp_path: Path
) -> None:
    """The first part is stopped by a signal to the second process only, amid an epoch."""
    extra = ["training.strategy=ddp", "training.ema_decay=0.9"]
    through, pieces = tmp_path / "through", tmp_path / "pieces"
    launch(through, shared, *extra)
    printed = launch(pieces, shared, *extra, stop="1:2")
    assert printed.count("Stopped by SIGTERM") == 1, printed
    assert last(pieces)["polsess_progress"]["steps"] == 3
    printed = launch(pieces, shared, *extra, "--resume")
    assert "best SI-SNRi on validation" in printed, printed
    one, two = last(through), last(pieces)
    for name, value in one["state_dict"].items():
        assert torch.equal(two["state_dict"][name], value), name
    assert [row[0] for row in records(pieces, "train")[1]] == [row[0] for row in records(through, "train")[1]]
    assert [row["val_si_snri"] for row in table(pieces)] == [row["val_si_snri"] for row in table(through)]
    assert not [path for path in (pieces / "run").rglob(".*") if path.is_file()]


@pytest.mark.slow
def test_a_bad_batch_of_one_process_is_left_out_by_all(shared: dict[str, Any], tmp_path: Path) -> None:
    printed = launch(tmp_path / "two", shared, "training.checkpoint_minutes=0", stop="nan1:2")
    assert "1 steps were left out" in printed, printed
    lines = (tmp_path / "two" / "run" / "non_finite.jsonl").read_text().splitlines()
    (record,) = [json.loads(line) for line in lines]
    assert record["keys"] == records(tmp_path / "two", "train")[1][2][0]  # the second process's
    assert record["first_module"] == "the mixture"
    state = last(tmp_path / "two")
    assert state["polsess_progress"]["steps"] == 7
    assert all(value.isfinite().all() for value in state["state_dict"].values())


@pytest.mark.slow
def test_our_own_launcher_needs_no_torchrun(shared: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(json.dumps(shared))
    command = [sys.executable, "-m", "polsess", "train", "-c", str(path), "-o", str(tmp_path / "run")]
    command += ["training.devices=2", "training.device=cpu", "training.max_epochs=1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("best SI-SNRi on validation") == 1


def test_processes_of_a_launcher_that_was_not_told_of_are_refused(
    monkeypatch: pytest.MonkeyPatch, shared: dict[str, Any], tmp_path: Path
) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(
        ConfigError, match=r"num_nodes is 2, but torchrun started 4 processes: set training.dev"
    ):
        create_strategy(TrainingConfig(devices=2))
    with pytest.raises(ConfigError, match="torchrun started 4"):
        train(parse_config(shared), tmp_path / "run", progress=False)
    monkeypatch.delenv("TORCHELASTIC_RUN_ID")
    monkeypatch.setenv("SLURM_NTASKS", "4")
    monkeypatch.setenv("SLURM_JOB_NAME", "train")
    with pytest.raises(ConfigError, match="SLURM started 4"):
        create_strategy(TrainingConfig(devices=2))
    create_strategy(TrainingConfig(devices=2, num_nodes=2))


def test_fsdp_is_refused_with_what_to_use(shared: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(json.dumps(shared))
    result = CliRunner().invoke(
        app, ["train", "-c", str(tmp_path / "a.yaml"), "training.strategy=fsdp", "training.devices=2"]
    )
    assert result.exit_code == 2
    assert "training.strategy: fsdp is no longer supported; use ddp" in " ".join(result.output.split())


@pytest.mark.parametrize("num_examples", [1, 5, 8])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_shares_are_equal_and_complete(num_examples: int, world_size: int) -> None:
    for shuffle in (True, False):
        shares = [
            list(EpochSampler(num_examples, 0, shuffle=shuffle, rank=rank, world_size=world_size))
            for rank in range(world_size)
        ]
        assert len({len(share) for share in shares}) == 1
        keys = [key for share in shares for key in share]
        if shuffle:
            assert len(set(keys)) == len(keys) == num_examples // world_size * world_size
        else:
            assert set(keys) == {(0, index) for index in range(num_examples)}


def test_processes_with_other_data_or_settings_are_refused_at_the_start(
    shared: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, value in (("data.val.examples", 4), ("training.optimizer.learning_rate", 0.5)):

        def gather(facts: dict[str, Any], key: str = key, value: Any = value) -> list[dict[str, Any]]:
            return [facts, {**facts, key: value}]

        with monkeypatch.context() as patch:
            patch.setattr(distributed, "gather", gather)
            with pytest.raises(ConfigError, match=rf"{key}: process 0 has .*, process 1 has .*the same data"):
                train(parse_config(shared), tmp_path / key, progress=False)
        assert not (tmp_path / key / "checkpoints").exists()


def test_the_death_of_another_process_is_told_in_our_words(tmp_path: Path) -> None:
    text = "[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:4"
    for error in (RuntimeError(text), torch.distributed.DistBackendError("NCCL communicator was aborted")):
        with (
            pytest.raises(TrainingStopped, match=r"Another process .* cannot be reached .*Nothing had been"),
            loading_explained(tmp_path / "last.ckpt"),
        ):
            raise error


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_a_run_ends_when_one_of_its_processes_is_killed(
    shared: dict[str, Any], tmp_path: Path, killed: int
) -> None:
    path, last = tmp_path / "tiny.yaml", tmp_path / "run" / "checkpoints" / "last.ckpt"
    path.write_text(json.dumps(shared))
    command = [sys.executable, "-m", "polsess", "train", "-c", str(path), "-o", str(tmp_path / "run")]
    command += ["training.devices=2", "training.device=cpu", "training.max_epochs=10000"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as first:
        while not last.exists():
            assert first.poll() is None
            time.sleep(0.05)
        (second,) = Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text().split()
        os.kill(int(second) if killed else first.pid, signal.SIGKILL)
        printed = first.communicate(timeout=60)[1]  # until the other has closed it, too
    assert first.returncode == (1 if killed else -signal.SIGKILL)
    assert "error: Another process of the run has ended or cannot be reached (Connection" in printed
    assert f"{last} is kept: continue with --resume." in printed
    assert "Traceback" not in printed


@pytest.mark.skipif(torch.cuda.is_available(), reason="a machine with CUDA")
def test_a_device_that_is_not_there_is_said_as_elsewhere(shared: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(json.dumps(shared))
    for option in ("--dry-run", "--quiet"):
        arguments = ["train", "-c", str(tmp_path / "a.yaml"), "-o", str(tmp_path / "run"), option]
        result = CliRunner().invoke(app, [*arguments, "training.device=cuda"])
        assert result.exit_code == 2
        assert "training.device: 'cuda' cannot be used" in " ".join(result.output.split())
        assert "try 'auto' or 'cpu'" in " ".join(result.output.split())
