"""From evaluations to a page, from answers to results, as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from polsess.cli.main import app
from polsess.cli.terminal import ExitCode
from polsess.listening import read_key
from tests.listening.planted import SYSTEMS, answers, evaluated, noisy, write_answers

MEANS = {"reference": 100.0, SYSTEMS[0]: 80.0, SYSTEMS[1]: 60.0, "mixture": 20.0, "low": 15.0, "mid": 40.0}


def run(*words: str | Path) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["listen", *map(str, words)])
    return result.exit_code, result.stdout, result.stderr


def test_make_and_analyse(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    folders = [each.folder for each in evaluated(tmp_path)]
    out = tmp_path / "out"
    code, text, notes = run("make", *folders, "-o", out, "--clips", "2", "--webmushra")
    assert code == ExitCode.DONE, notes
    assert "3 pages (1 for training), 2 clips, 2 systems." in text
    key = read_key(out / "key.json")
    assert (out / "webmushra" / "configs" / f"{key.test}.yaml").is_file()
    write_answers(tmp_path / "answers", *(answers(key, f"L{n}", noisy(MEANS, n)) for n in range(7)))
    code, text, _ = run(
        "analyse", tmp_path / "answers", "--key", out / "key.json", "-o", tmp_path / "results"
    )
    assert code == ExitCode.DONE
    assert f"{SYSTEMS[0]} is better than {SYSTEMS[1]} by" in text
    names = {path.name for path in (tmp_path / "results").iterdir()}
    assert names == {"results.md", "summary.csv", "pairs.csv", "ratings.csv", "ratings.png"}
    code, _, message = run("make", *folders, "-o", out, "--clips", "1")
    assert code == ExitCode.SOME_FAILED
    assert "is the key of another test" in message
    code, _, message = run("make", *folders, "-o", tmp_path / "x", "--anchor", "lowest")
    assert code == ExitCode.USAGE
    assert "listen.anchors.0" in message
    code, _, message = run("analyse", out / "key.json", "--key", out / "key.json")
    assert code == ExitCode.USAGE
    assert "key.json: format: expected 'polsess-listening-answers-1'" in message
    (tmp_path / "answers" / "answers-L1.json").write_text(json.dumps({"test": key.test}))
    code, _, message = run("analyse", tmp_path / "answers", "--key", out / "key.json")
    assert code == ExitCode.USAGE
    assert "answers-L1.json.listener: missing" in message
