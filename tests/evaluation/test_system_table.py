"""Tables of systems for a thesis: values, marks, costs and the three formats."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from polsess.cli.main import app
from polsess.cli.terminal import ExitCode
from polsess.evaluation.comparison import Contender
from polsess.evaluation.storage import EvaluationFolder
from polsess.evaluation.system_table import system_table
from polsess.schema import ConfigError
from tests.evaluation.test_comparison import contender, evaluation


def with_costs(name: str, effect: float, num_runs: int = 1) -> Contender:
    runs = contender(name, effect, num_runs).runs
    rows = [tuple(replace(row, separation_seconds=0.25) for row in run.rows) for run in runs]
    origin = {"parameters": 2_500_000, "macs_per_second": 4_000_000_000}
    return Contender(
        name, tuple(replace(run, rows=each, origin=origin) for run, each in zip(runs, rows, strict=True))
    )


def test_the_best_and_its_equals_are_marked() -> None:
    table = system_table([with_costs("a_1", 0.5), contender("bb", 0.0), contender("ccc", 0.49, 3)])
    assert table.columns == ("si_snri", "parameters", "gmacs", "rtf")
    marks = {name: cells[0].mark for name, cells in table.rows}
    assert sorted(marks.values()) == ["", "best", "tied"]
    assert marks["bb"] == ""
    cells = dict(table.rows)["a_1"]
    assert [round(cell.mean, 3) for cell in cells[1:]] == [2.5, 4.0, 0.25]
    values = np.mean([run.values("si_snri") for run in contender("ccc", 0.49, 3).runs])
    assert dict(table.rows)["ccc"][0].mean == pytest.approx(values)
    assert "ccc 3" in table.caption
    assert "40 utterances at 8000 Hz, list" in table.caption


def test_formats() -> None:
    table = system_table([with_costs("a_1", 0.5), contender("bb", 0.0)])
    text = table.render("markdown")
    assert "SI-SNRi [dB] | params [M] | GMAC/s |   RTF |" in text
    assert text.count("**") == 2
    tex = table.render("latex")
    assert r"a\_1 & \textbf{" in tex
    assert r"$\pm$" in tex
    assert tex.count(r"\toprule") == tex.count(r"\caption{") == 1
    assert r"95 \% interval" in tex
    rows = list(csv.DictReader(table.render("csv").splitlines()))
    assert [row["si_snri_mark"] for row in rows] == ["best", ""]
    assert (rows[0]["gmacs"], rows[1]["gmacs"]) == ("4", "")
    assert float(rows[0]["si_snri_interval_half"]) > 0


def test_one_system_and_wrong_columns() -> None:
    table = system_table([contender("a", 0.0)], ["si_snr"])
    assert table.rows[0][1][0].mark == ""
    assert "Bold" not in table.caption
    with pytest.raises(ConfigError, match=r"table: a has no column 'pesq'. Known: si_snr, "):
        system_table([contender("a", 0.0)], ["pesq"])
    with pytest.raises(ConfigError, match="a has no column 'gmacs'"):
        system_table([contender("a", 0.0)], ["gmacs"])


def test_from_folders_to_a_file(tmp_path: Path) -> None:
    for name, seed in (("one", 0), ("two", 1)):
        result = evaluation(name, 0.1 * seed, seed)
        EvaluationFolder(tmp_path / name, result.settings).finish(result)
    words = ["table", str(tmp_path / "one"), f"both={tmp_path / 'one'},{tmp_path / 'two'}"]
    printed = CliRunner().invoke(app, [*words, "--columns", "si_snri"])
    assert printed.exit_code == ExitCode.DONE
    assert "| both " in printed.stdout
    target = tmp_path / "table.tex"
    words += ["--format", "latex", "-o", str(target)]
    assert CliRunner().invoke(app, words).exit_code == ExitCode.DONE
    assert target.read_text().endswith("\\end{table}\n")
