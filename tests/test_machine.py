from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from polsess import machine


@pytest.mark.skipif(shutil.which("git") is None, reason="no git")
def test_the_commit_of_a_checkout(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        name = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        subprocess.run(["git", "-C", str(tmp_path), *name, *arguments], check=True, capture_output=True)

    assert machine.code_commit(tmp_path) is None
    git("init")
    (tmp_path / "code.py").write_text("one = 1\n")
    git("add", ".")
    git("commit", "-m", "first")
    clean = machine.code_commit(tmp_path)
    assert clean is not None
    assert len(str(clean["commit"])) == 40
    assert clean["dirty"] is False
    (tmp_path / "new.py").write_text("")
    assert machine.code_commit(tmp_path) == {**clean, "dirty": True}


def test_without_git_nothing_is_claimed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    assert machine.code_commit(tmp_path) is None


def test_facts_are_there() -> None:
    assert machine.installed_version("torch")
    assert machine.installed_version("no-such-package") is None
    assert machine.processor_name()
