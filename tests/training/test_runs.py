"""Runs are compared whatever state they are in."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from polsess.cli.main import app
from polsess.config import parse_config
from polsess.folder_lock import locked
from polsess.training.history import RunState, find_runs, read_run

HEADER = "epoch,step,minutes_since_start,learning_rate,train_loss,val_si_snr,val_si_snri\n"


def make_run(
    folder: Path,
    experiment: dict[str, Any],
    scores: list[float],
    *,
    outcome: str | None = None,
    **training: Any,
) -> Path:
    (folder / "tensorboard").mkdir(parents=True)
    config = parse_config({**experiment, "training": {**experiment["training"], **training}})
    (folder / "config.json").write_text(config.model_dump_json())
    rows = [f"{n},{4 * n + 4},{n + 1}.5,0.01,{-score},{score},{score}" for n, score in enumerate(scores)]
    (folder / "metrics.csv").write_text(HEADER + "\n".join(rows) + "\n")
    if outcome is not None:
        starts = [{"outcome": outcome, "parameters": 12_345}]
        (folder / "environment.json").write_text(json.dumps({"starts": starts}))
    return folder


@pytest.fixture
def several(experiment: dict[str, Any], tmp_path: Path) -> Path:
    home = tmp_path / "runs"
    make_run(home / "small", experiment, [1.0, 3.0], max_epochs=2)
    make_run(home / "large", experiment, [2.0, 5.25, 4.0], max_epochs=9, outcome="Preempted: SIGTERM")
    make_run(home / "young", experiment, [], max_epochs=9, outcome="running")
    return home


def test_states(several: Path, experiment: dict[str, Any]) -> None:
    with locked(several / "young", "polsess train"):
        states = {run.folder.name: run.state for run in find_runs([several])}
    assert states == {"small": RunState.FINISHED, "large": RunState.STOPPED, "young": RunState.RUNNING}
    failed = make_run(several / "failed", experiment, [1.0], max_epochs=9, outcome="ValueError: x")
    assert read_run(failed).state is RunState.FAILED
    early = make_run(several / "early", experiment, [2.0, 1.0, 1.0], max_epochs=9, early_stopping_patience=5)
    with locked(early, "polsess train"):
        assert read_run(early).state is RunState.RUNNING
    stopped = read_run(early)
    assert stopped.state is RunState.STOPPED
    assert "ended without a word" in stopped.problems[0]


def test_a_recorded_run_is_read_without_torch(several: Path) -> None:
    """So that the command starts at once."""
    program = (
        "import sys\n"
        "from polsess.cli.main import app\n"
        f"app(['runs', {str(several / 'large')!r}], standalone_mode=False)\n"
        "print(sorted({'torch', 'lightning', 'numpy', 'yaml'} & sys.modules.keys()))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "12.3 k" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_time_is_added_up_over_resumes(several: Path) -> None:
    table = several / "small" / "metrics.csv"
    table.write_text(HEADER + "0,4,3,0,0,0,0\n1,8,6,0,0,0,0\n2,12,2,0,0,0,0\n3,16,4.5,0,0,0,0\n")
    assert read_run(several / "small").minutes == pytest.approx(10.5)
    starts = [{"resumed_at": None}, {"resumed_at": {"epoch": 1}}]  # whose first epoch took longer
    (several / "small" / "environment.json").write_text(json.dumps({"starts": starts}))
    assert read_run(several / "small").minutes == pytest.approx(13.5)


def test_the_table_shows_the_best_first_and_what_differs(several: Path) -> None:
    result = CliRunner().invoke(app, ["runs", str(several)])
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:5]] == ["large", "small", "young"]
    assert "| 5.25 |" in " ".join(lines[2].split())
    assert "3 of 9" in lines[2]
    assert any(line.startswith("| training.max_epochs") for line in lines)
    assert not any("learning_rate" in line for line in lines)  # the same in all


def test_long_names_leave_the_tables_within_a_terminal(several: Path) -> None:
    names = ["large_network_with_dynamic_mixing_seed_0", "small_network_without_dynamic_mixing_seed_0"]
    for old, new in zip(("large", "small"), names, strict=True):
        (several / old).rename(several / new)
    lines = CliRunner().invoke(app, ["runs", str(several)]).stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert [line.split("|")[1].strip() for line in lines[2:5]] == ["1", "2", "3"]
    first = lines.index(f"1: {names[0]}")
    assert lines[first + 1 : first + 3] == [f"2: {names[1]}", "3: young"]
    assert any(line.startswith("| differing setting") and "1 |" in line for line in lines)


def test_chosen_columns(several: Path) -> None:
    words = ["runs", str(several / "large"), str(several / "small")]
    chosen = CliRunner().invoke(app, [*words, "--columns", "run,training.max_epochs,best", "-f", "csv"])
    assert list(csv.reader(chosen.stdout.splitlines()))[:2] == [
        ["run", "training.max_epochs", "best SI-SNRi [dB]"],
        ["large", "9", "5.25"],
    ]
    narrow = CliRunner().invoke(app, [*words, "--format", "latex"]).stdout
    assert "lrrrr" in narrow  # five columns, whatever the settings in which the runs differ
    wrong = CliRunner().invoke(app, [*words, "--columns", "run,bset"])
    assert wrong.exit_code != 0
    assert "Did you mean 'best'" in wrong.output
    nothing = CliRunner().invoke(app, [*words, "--columns", "run", "-f", "json"])
    assert "leave --columns out" in nothing.output


@pytest.mark.parametrize("form", ["markdown", "latex", "csv", "json"])
def test_other_formats(several: Path, form: str) -> None:
    result = CliRunner().invoke(
        app, ["runs", str(several / "large"), str(several / "small"), "--format", form]
    )
    assert result.exit_code == 0
    if form == "json":
        first = json.loads(result.stdout)[0]
        assert (first["best_si_snri_db"], first["best_epoch"], first["steps"]) == (5.25, 2, 12)
        assert first["differing_settings"] == {"training.max_epochs": 9}
        assert first["parameters"] > 1000
    elif form == "csv":
        rows = list(csv.DictReader(result.stdout.splitlines()))
        assert [row["training.max_epochs"] for row in rows] == ["9", "2"]
    else:
        assert "5.25" in result.stdout
        assert r"\toprule" in result.stdout or form == "markdown"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("config.json", "{", "config.json: "),
        ("config.json", "[1]", "config.json: expected an object"),
        ("config.json", '{"model": {"model_type": "none"}}', "config.json: no model can be made of it"),
        ("config.json", None, "config.json is missing"),
        ("metrics.csv", HEADER + "0,4,x,0,0,0,0\n", "metrics.csv: line 2 cannot be read"),
        ("metrics.csv", "a,b\n1,2\n", "metrics.csv: line 2 cannot be read"),
        ("metrics.csv", b"\xff\xfe\x00", "metrics.csv: "),
        ("environment.json", "[]", "environment.json: expected an object"),
        ("environment.json", "[" * 100_000, "environment.json: "),
    ],
)
def test_damage_is_said_and_the_others_are_shown(
    several: Path, name: str, content: str | bytes | None, said: str
) -> None:
    damaged = several / "small" / name
    if content is None:
        damaged.unlink()
    else:
        damaged.write_bytes(content if isinstance(content, bytes) else content.encode())
    result = CliRunner().invoke(app, ["runs", str(several)])
    assert result.exit_code == 0, result.output
    assert "damaged" in result.stdout
    assert f"small: {said}" in result.stdout
    assert "5.25" in result.stdout


def test_learning_curves_are_drawn(several: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "curves.png"
    result = CliRunner().invoke(app, ["runs", str(several), "--plot", str(picture)])
    assert result.exit_code == 0, result.output
    assert picture.read_bytes()[:4] == b"\x89PNG"
    nothing = CliRunner().invoke(app, ["runs", str(several / "young"), "--plot", str(picture)])
    assert nothing.exit_code == 1
    assert "no run has a complete epoch yet" in nothing.output


def test_nothing_to_compare_is_said(tmp_path: Path) -> None:
    for folder, said in ((tmp_path, "no training run in it"), (tmp_path / "none", "no such folder")):
        result = CliRunner().invoke(app, ["runs", str(folder)])
        assert result.exit_code == 2
        assert said in result.output
