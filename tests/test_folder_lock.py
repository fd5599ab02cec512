"""A folder has one living owner at a time, whatever became of the ones before."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from polsess import folder_lock
from polsess.folder_lock import LOCK, FolderInUseError, find_owner, locked


@pytest.fixture
def dead(tmp_path: Path) -> Path:
    """A folder with the lock of a process that ended without removing it."""
    folder = tmp_path / "dead"
    program = (
        "import os, sys\nfrom pathlib import Path\nfrom polsess.folder_lock import locked\n"
        "with locked(Path(sys.argv[1]), 'polsess train'):\n    os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", program, str(folder)], check=True)
    assert (folder / LOCK).exists()
    return folder


def change(folder: Path, age: float = 0.0, **facts: Any) -> None:
    path = folder / LOCK
    path.write_text(json.dumps({**json.loads(path.read_text()), **facts}))
    os.utime(path, (0, time.time() - age))


def test_a_folder_in_use_is_refused_with_the_name_of_its_owner(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "run"
    with locked(folder, "polsess train"):
        (folder / "result.txt").touch()
        with (
            pytest.raises(
                FolderInUseError, match=rf"a/run: in use by polsess train on .*process {os.getpid()}"
            ),
            locked(folder, "polsess tune"),
        ):
            pass
        owner = find_owner(folder)
        assert owner is not None
        assert owner.process == os.getpid()
    assert find_owner(folder) is None
    assert [path.name for path in folder.iterdir()] == ["result.txt"]


def test_a_folder_to_which_nothing_was_written_is_removed(tmp_path: Path) -> None:
    with locked(tmp_path / "a" / "run", "polsess train"):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the system does not list its processes")
def test_the_lock_of_a_dead_process_is_taken_over_at_once(dead: Path) -> None:
    assert find_owner(dead) is None
    with locked(dead, "polsess train"):
        assert find_owner(dead) is not None
    with locked(dead, "polsess train"):
        change(dead, process=os.getpid(), process_start="1")  # its number is used again
        assert find_owner(dead) is None


def test_a_lock_of_another_machine_holds_while_it_is_renewed(dead: Path) -> None:
    change(dead, host="far", system="far away")
    with pytest.raises(FolderInUseError, match="polsess train on far"), locked(dead, "polsess train"):
        pass
    change(dead, age=3600)
    with locked(dead, "polsess train"):
        assert find_owner(dead) is not None


@pytest.mark.parametrize("content", ["", '{"process": 1', "[]", '{"process": "../x"}'])
def test_a_lock_that_is_not_whole_is_believed_for_a_while(dead: Path, content: str) -> None:
    (dead / LOCK).write_text(content)
    with pytest.raises(FolderInUseError, match="in use by another process"), locked(dead, "polsess train"):
        pass
    os.utime(dead / LOCK, (0, time.time() - 3600))
    with locked(dead, "polsess train"):
        assert find_owner(dead) is not None
    assert list(dead.iterdir()) == []


def test_of_two_that_find_a_stale_lock_one_gets_it(dead: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one takes over between this one's look at the lock and its removal."""
    change(dead, age=3600, system="far away")
    original = folder_lock._remove_stale

    def remove_late(path: Path, stale: Any) -> None:
        path.unlink()
        folder_lock._acquire(path, other)
        original(path, stale)

    other = folder_lock.Owner("polsess tune", "here", os.getpid(), "now", None, "here", "1")
    monkeypatch.setattr(folder_lock, "_remove_stale", remove_late)
    with pytest.raises(FolderInUseError, match="polsess tune on here"), locked(dead, "polsess train"):
        pass
    assert json.loads((dead / LOCK).read_text())["token"] == "1"
    assert len(list(dead.iterdir())) == 1


def test_a_lock_is_renewed_while_it_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    renewed = threading.Event()
    monkeypatch.setattr(folder_lock, "_RENEWED_SECONDS", 0.001)
    monkeypatch.setattr(os, "utime", lambda path: renewed.set() if path == tmp_path / LOCK else None)
    with locked(tmp_path, "polsess train"):
        assert renewed.wait(60)
