"""Clusters of Ray on this machine: killed workers and commands lose nothing, and nothing is done twice."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from polsess.audio import read_audio, read_audio_info, write_audio
from polsess.checkpoints import save_model
from polsess.models import create_model

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

NUM = 12


@pytest.fixture(autouse=True)
def _with_ray() -> None:
    for package in ("ray.data", "pyarrow"):
        pytest.importorskip(package)


def recordings(folder: Path) -> Path:
    """Some recordings of different lengths, and one file that is none."""
    torch.manual_seed(0)
    for number in range(NUM):
        sound = 0.1 * torch.randn(1, 8000 * (31 + number))
        write_audio(folder / f"day{number % 2}" / f"{number}.wav", sound, 8000)
    (folder / "broken.wav").write_text("no sound")
    return folder


def network(folder: Path) -> Path:
    torch.manual_seed(0)
    save_model(create_model("blstm", preset="tiny"), folder)
    return folder


def start(*words: object, log: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    with log.open("wb") as file:
        command = [sys.executable, "-m", "polsess", *map(str, words)]
        return subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environment)


def separate(material: Path, out: Path, *words: object) -> subprocess.Popen[bytes]:
    model = ("-m", material / "net", "--gate", "never", "--segment", "2", "--json")
    return start("separate", material / "in", "-o", out, *model, *words, log=out.with_suffix(".log"))


def finish(process: subprocess.Popen[bytes], log: Path, code: int = 0) -> str:
    assert process.wait(600) == code, log.read_text()
    return log.read_text()


def rows(out: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet

    found: list[dict[str, Any]] = pyarrow.parquet.read_table(out / "manifest.parquet").to_pylist()
    return found


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.wav")}


def workers_of(process: int) -> list[int]:
    """The actors of Ray below a process: those whose title says that they are one."""
    found, children = [], [process]
    listed = [path for path in Path("/proc").iterdir() if path.name.isdigit()]
    parents: dict[int, list[int]] = {}
    titles: dict[int, str] = {}
    for path in listed:
        try:
            parent = int(path.joinpath("stat").read_text().rpartition(")")[2].split()[1])
            titles[int(path.name)] = path.joinpath("cmdline").read_text().replace("\0", " ")
        except OSError:
            continue
        parents.setdefault(parent, []).append(int(path.name))
    while children:
        child = children.pop()
        children += parents.get(child, [])
        found += [child] if "MapWorker" in titles.get(child, "") else []
    return found


def wait_for(condition: Any, process: subprocess.Popen[bytes], log: Path) -> Any:
    deadline = time.monotonic() + 300
    while not (value := condition()):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
    return value


def alone(material: Path, out: Path) -> dict[str, bytes]:
    """What the command writes without a cluster."""
    recordings(material / "in")
    network(material / "net")
    finish(separate(material, out), out.with_suffix(".log"), code=1)
    return contents(out)


def check(material: Path, out: Path, expected: dict[str, bytes]) -> None:
    """Every recording has one row, and the outputs that it has without a cluster."""
    table = rows(out)
    assert Counter(row["input"] for row in table) == Counter(
        str(path) for path in (material / "in").rglob("*.wav")
    )
    good = [row for row in table if row["status"] == "done"]
    assert len(good) == NUM
    for row in good:
        info = read_audio_info(row["input"])
        assert (row["rate"], row["seconds"], row["speakers"]) == (8000, info.duration_seconds, 2)
    assert contents(out) == expected
    named = [path for row in good for path in row["outputs"]]
    assert sorted(named) == sorted(str(out / name) for name in expected)
    (bad,) = [row for row in table if row["status"] != "done"]
    assert bad["status"] == "failed"
    assert bad["error"].startswith(f"{material / 'in' / 'broken.wav'}: is not a WAV")
    left = {path.name for path in out.rglob("*") if path.is_file() and path.suffix != ".wav"}
    assert left == {"manifest.parquet"}, "nothing hidden, no lock, no parts"


def test_killed_workers_and_a_killed_command_lose_and_double_nothing(tmp_path: Path) -> None:
    expected = alone(tmp_path, tmp_path / "alone")
    out = tmp_path / "out"
    log = out.with_suffix(".log")
    process = separate(tmp_path, out, "--ray")
    wait_for(lambda: len(contents(out)) >= 2, process, log)
    for victim in workers_of(process.pid):  # both of them, while they work
        os.kill(victim, signal.SIGKILL)
    wait_for(lambda: len(contents(out)) >= 8, process, log)
    process.send_signal(signal.SIGKILL)  # and then the command itself
    process.wait(60)
    assert not (out / "manifest.parquet").exists()
    process = separate(tmp_path, out, "--ray", "--clip-mode", "clamp")
    assert "other settings (different: format)" in finish(process, log, code=2)
    text = finish(separate(tmp_path, out, "--ray"), log, code=1)
    check(tmp_path, out, expected)
    done = Counter(json.loads(line)["input"] for line in text.splitlines() if line.startswith("{"))
    assert set(done.values()) == {1}
    written = {path: path.stat().st_mtime_ns for path in out.rglob("*.wav")}
    text = finish(separate(tmp_path, out, "--ray"), log, code=1)
    assert f"0 separated, {NUM} done before" in text
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.wav")} == written


def sounds(folder: Path) -> dict[str, list[Any]]:
    """Samples, as headers of floats hold the time."""
    paths = sorted((folder / "estimates").rglob("*.wav"))
    assert len(paths) == 2 * 40
    return {path.relative_to(folder).as_posix(): read_audio(path)[0].tolist() for path in paths}


def stable(folder: Path) -> tuple[str, dict[str, Any]]:
    """Scores and summary without the times."""
    summary = json.loads((folder / "summary.json").read_text())
    with (folder / "scores.csv").open(newline="") as file:
        table = [
            {key: text for key, text in row.items() if "seconds" not in key} for row in csv.DictReader(file)
        ]
    return json.dumps(table), {key: value for key, value in summary.items() if "seconds" not in key}


def test_an_evaluation_whose_worker_and_command_are_killed_ends_as_if_undisturbed(tmp_path: Path) -> None:
    network(tmp_path / "net")
    torch.manual_seed(1)
    for number in range(40):
        sources = 0.1 * torch.randn(2, 16_000)
        for name, samples in zip(("mix", "s1", "s2"), (sources.sum(0), *sources), strict=True):
            write_audio(tmp_path / "set" / f"item{number:02d}" / f"{name}.wav", samples, 8000)
    words = ("-m", tmp_path / "net", "-d", tmp_path / "set", "--metrics", "si_snr,sdr", "--save-estimates")

    def run(name: str, *more: object) -> subprocess.Popen[bytes]:
        return start("evaluate", *words, "-o", tmp_path / name, *more, log=tmp_path / f"{name}.log")

    finish(run("alone"), tmp_path / "alone.log")
    log, folder = tmp_path / "out.log", tmp_path / "out" / "set" / "net"

    def journal() -> int:
        path = folder / "journal.jsonl"
        return len(path.read_text().splitlines()) if path.exists() else 0

    process = run("out", "--ray")
    wait_for(lambda: journal() >= 3, process, log)
    for victim in workers_of(process.pid):
        os.kill(victim, signal.SIGKILL)
    before = journal()
    wait_for(lambda: journal() > before, process, log)
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    finish(run("out", "--ray"), log)
    assert stable(folder) == stable(tmp_path / "alone" / "set" / "net")
    assert sounds(folder) == sounds(tmp_path / "alone" / "set" / "net")
