"""Every example runs, and every model of a release has one."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

from polsess.models import get_model_class, list_models

FOLDER = Path(__file__).parents[1] / "examples"
EXAMPLES = sorted(FOLDER.glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_it_runs_and_says_what_it_did(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [str(path)])
    runpy.run_path(str(path), run_name="__main__")
    assert capsys.readouterr().out.strip()
    assert len(path.read_text().splitlines()) <= 40


@pytest.mark.release
@pytest.mark.parametrize("name", list_models())
def test_every_model_has_an_example(name: str) -> None:
    assert f"{get_model_class(name).__module__.rsplit('.', 1)[-1]}.py" in {path.name for path in EXAMPLES}
