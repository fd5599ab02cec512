"""A new model is one file: the model of the guide joins a copy of the project, and nothing else changes."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LARGE = {"golden", "data", "assets"}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The project with links to its large folders, and the model of the guide."""
    for path in ROOT.iterdir():
        if path.name in {"src", "tests"}:
            _copy(path, tmp_path / path.name)
        elif not path.name.startswith("."):
            (tmp_path / path.name).symlink_to(path)
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/adding_a_model.md").read_text(), re.S)
    (tmp_path / "src/polsess/models/echo.py").write_text(code)
    return tmp_path


def _copy(source: Path, target: Path) -> None:
    target.mkdir()
    for path in source.iterdir():
        if path.is_dir() and path.name not in LARGE | {"__pycache__"}:
            _copy(path, target / path.name)
        elif path.name in LARGE:
            (target / path.name).symlink_to(path)
        elif path.is_file():
            (target / path.name).write_bytes(path.read_bytes())


def selection() -> tuple[set[str], set[str]]:
    """Files and names of the tests that run over all models: as their parameters, or by listing them."""
    files, names = set(), {"echo"}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_") and _lists(node.body):
                files.add(str(path.relative_to(ROOT)))
                names.add(node.name)
            elif isinstance(node, ast.Call) and _lists(node.args):  # of pytest.mark.parametrize
                files.add(str(path.relative_to(ROOT)))
    return files, names


def _lists(nodes: Sequence[ast.AST]) -> bool:
    found = {each.id for node in nodes for each in ast.walk(node) if isinstance(each, ast.Name)}
    return bool(found & {"list_models", "list_architectures", "MODEL_REGISTRY"})


def test_the_model_of_the_guide_needs_no_other_change(copy: Path) -> None:
    files, names = selection()
    assert "tests/models/test_contract.py" in files
    environment = {**os.environ, "PYTHONPATH": str(copy / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *sorted(files)]
    command += ["-k", " or ".join(sorted(names))]
    ended = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout[-3000:]
    models = [sys.executable, "-m", "polsess", "models"]
    listed = subprocess.run(models, cwd=copy, env=environment, capture_output=True, text=True, check=True)
    assert re.search(r"^\| echo +\| +0\.00 M \| +0 \| bfloat16 +\| no", listed.stdout, re.M)
