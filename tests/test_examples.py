"""Every example and the notebook run from a folder of one's own, without arguments."""

from __future__ import annotations

import ast
import json
import runpy
import sys
from pathlib import Path

import pytest

from polsess.data.mini import make_mini
from polsess.models import list_models

FOLDER = Path(__file__).parents[1] / "examples"
EXAMPLES = sorted(FOLDER.glob("*.py"))


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the small set of every recipe."""
    folder = tmp_path_factory.mktemp("workplace")
    make_mini(folder / "data")
    return folder


def run(path: Path, monkeypatch: pytest.MonkeyPatch, workplace: Path) -> None:
    monkeypatch.chdir(workplace)
    monkeypatch.setattr(sys, "argv", [str(path)])
    runpy.run_path(str(path), run_name="__main__")


@pytest.mark.filterwarnings("ignore::UserWarning:lightning")
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_it_runs_and_says_what_it_did(
    path: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(path, monkeypatch, workplace)
    assert capsys.readouterr().out.strip()
    assert len(path.read_text().splitlines()) <= 45


def test_every_model_is_in_the_loop(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(FOLDER / "every_architecture.py", monkeypatch, workplace)
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == list_models()
    assert all("parameters" in line for line in lines)


def test_the_cells_of_the_notebook_run_in_their_order(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(workplace)
    book = json.loads((FOLDER / "separation.ipynb").read_text())
    names: dict[str, object] = {}
    shown = []
    for cell in book["cells"]:
        if cell["cell_type"] != "code":
            continue
        assert (cell["outputs"], cell["execution_count"]) == ([], None)  # nothing that a machine left there
        tree = ast.parse("".join(cell["source"]))
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, "cell", "exec"), names)
        if isinstance(last, ast.Expr):
            shown.append(eval(compile(ast.Expression(last.value), "cell", "eval"), names))
    assert "<audio" in shown[1]._repr_html_()
    assert "SI-SNRi" in capsys.readouterr().out
