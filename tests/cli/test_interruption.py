"""Signals at chosen steps of commands: exit code, one line, nothing hidden, and the same command goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from polsess.audio import write_audio
from polsess.checkpoints import save_model
from polsess.cli.main import app
from polsess.folder_lock import locked
from polsess.interruption import Interrupted, received, stopped_by_signals, uninterrupted
from polsess.models import create_model
from polsess.processes import create_pool

SIGNALLED = """
import importlib, os, sys

module, _, name = sys.argv[1].rpartition(".")
numbers, at, calls = sys.argv[2].split(","), int(sys.argv[3]), iter(range(10**6))
owner = importlib.import_module(module)
original = getattr(owner, name)

def send(numbers):
    if numbers:
        try:
            os.kill(os.getpid(), int(numbers[0]))
        finally:  # while the first has its effect
            send(numbers[1:])

def signalled(*args, **kwargs):
    if next(calls) == at:
        send(numbers)
    return original(*args, **kwargs)

setattr(owner, name, signalled)
sys.argv = ["polsess", *sys.argv[4:]]
from polsess.cli.main import main
main()
"""


def run(words: Sequence[str], step: str, numbers: Sequence[int], at: int) -> subprocess.CompletedProcess[str]:
    """Run a command that sends itself signals at a call of a function."""
    sent = ",".join(str(int(number)) for number in numbers)
    command = [sys.executable, "-c", SIGNALLED, step, sent, str(at), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "tiny"
    torch.manual_seed(0)
    return save_model(create_model("blstm", preset="tiny"), folder)


@pytest.fixture
def talk(tmp_path: Path) -> Path:
    write_audio(tmp_path / "in" / "talk.wav", 0.1 * torch.randn(1600), 8000)
    return tmp_path / "in" / "talk.wav"


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("numbers", "step", "at", "left"),
    [
        ([signal.SIGTERM], "polsess.publication.flush", 0, 0),
        ([signal.SIGHUP], "polsess.publication.flush", 1, 0),
        ([signal.SIGINT, signal.SIGINT], "polsess.publication.flush", 0, 0),
        ([signal.SIGTERM, signal.SIGHUP], "polsess.publication._place_new", 1, 2),  # between the two names
    ],
)
def test_separation_ends_with_both_speakers_or_none(
    model: Path, talk: Path, tmp_path: Path, numbers: list[int], step: str, at: int, left: int
) -> None:
    words = ["separate", str(talk), "-o", str(tmp_path / "out"), "-m", str(model)]
    done = run(words, step, numbers, at)
    assert done.returncode == 128 + numbers[0], done.stderr
    lines = [f"error: Stopped by {signal.Signals(numbers[0]).name}. Finished results are kept"]
    lines = ["Stopping; once more ends it at once.", *lines] if len(numbers) > 1 else lines
    for line, begin in zip(done.stderr.splitlines(), lines, strict=True):
        assert line.startswith(begin)
    names = files(tmp_path / "out")
    assert sum("_speaker" in name for name in names) == left
    assert left or not names


def test_evaluation_goes_on_where_it_was_stopped(model: Path, tmp_path: Path) -> None:
    for item in ("one", "two", "three"):
        sources = 0.1 * torch.randn(2, 1600)
        for name, samples in zip(("mix", "s1", "s2"), (sources.sum(0), *sources), strict=True):
            write_audio(tmp_path / "set" / item / f"{name}.wav", samples, 8000)
    words = ["evaluate", "-m", str(model), "-d", str(tmp_path / "set"), "--metrics", "si_snr", "-o"]
    done = run([*words, str(tmp_path / "out")], "polsess.metrics.pool.score_utterance", [signal.SIGHUP], 2)
    assert done.returncode == 128 + signal.SIGHUP, done.stderr
    assert files(tmp_path / "out") == ["set/tiny/journal.jsonl"]
    rows = (tmp_path / "out" / "set" / "tiny" / "journal.jsonl").read_text().count("\n") - 1
    assert rows == 2
    for out in ("out", "through"):
        again = run([*words, str(tmp_path / out)], "polsess.metrics.pool.score_utterance", [], -1)
        assert again.returncode == 0, again.stderr
    tables = [(tmp_path / out / "set" / "tiny" / "scores.csv").read_text() for out in ("out", "through")]
    scores = [[line.split(",")[:4] for line in table.splitlines()] for table in tables]
    assert scores[0] == scores[1]


def test_a_converted_model_is_the_old_one_until_it_is_new(model: Path, tmp_path: Path) -> None:
    save_model(create_model("blstm", preset="tiny"), tmp_path / "copy")
    before = (tmp_path / "copy" / "model.safetensors").read_bytes()
    done = run(
        ["convert", str(model), str(tmp_path / "copy")], "polsess.publication.flush", [signal.SIGTERM], 1
    )
    assert done.returncode == 128 + signal.SIGTERM, done.stderr
    assert (tmp_path / "copy" / "model.safetensors").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]


def test_signals_that_were_ignored_stay_so() -> None:
    """As under nohup, or in the background of a script."""
    old = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stopped_by_signals():
            os.kill(os.getpid(), signal.SIGHUP)
            assert received() is None
    finally:
        signal.signal(signal.SIGHUP, old)


def test_a_signal_waits_for_the_end_of_a_step() -> None:
    steps = []

    def work() -> None:
        with uninterrupted(), uninterrupted():
            os.kill(os.getpid(), signal.SIGTERM)
            steps.append("whole")
        steps.append("the next")

    with pytest.raises(Interrupted) as caught, stopped_by_signals():
        work()
    assert steps == ["whole"]
    assert caught.value.received is signal.SIGTERM


ORPHANED = """
import os, signal, sys
from polsess.processes import create_pool
if __name__ == "__main__":
    pool = create_pool(2)
    print(*{pool.submit(os.getpid).result() for _ in range(8)}, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_processes_of_a_killed_command_end(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(ORPHANED)
    done = subprocess.run([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, timeout=120)
    assert done.returncode == -signal.SIGKILL
    workers = [Path("/proc") / word for word in done.stdout.split()]
    assert workers
    while any(worker.exists() and "Z" not in state(worker) for worker in workers):
        time.sleep(0.01)  # the test's time limit is the assertion


def state(process: Path) -> str:
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def test_processes_leave_the_signals_of_a_terminal_to_the_command() -> None:
    with create_pool(1) as pool:
        for number in (signal.SIGINT, signal.SIGHUP):
            os.kill(pool.submit(os.getpid).result(), number)
        assert pool.submit(abs, -1).result() == 1


def test_a_second_command_into_one_folder_is_refused(model: Path, tmp_path: Path) -> None:
    data, out = tmp_path / "data" / "set", tmp_path / "out"
    for name in ("mix", "s1", "s2"):
        write_audio(data / "one" / f"{name}.wav", 0.1 * torch.randn(1600), 8000)
    commands = {
        out / "set" / "tiny": ["evaluate", "-m", str(model), "-d", str(data)],
        out: ["benchmark", "blstm:tiny", "--quick"],
    }
    for folder, words in commands.items():
        with locked(folder, "polsess first"):
            before = files(tmp_path)
            result = CliRunner().invoke(app, [*words, "-o", str(out)])
            assert result.exit_code == 1, result.stderr
            assert f"{folder}: in use by polsess first on " in result.stderr
            assert files(tmp_path) == before


def test_output_that_a_full_disk_cuts_short_is_no_success() -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "polsess", "models"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 1
    assert "standard output: No space left on device; what was printed is not complete" in done.stderr


def test_a_reader_that_leaves_ends_nothing() -> None:
    command = f"{sys.executable} -m polsess models --help | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
