"""Files that appear together, with faults placed at every step; and what a killed process leaves."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from polsess import publication
from polsess.publication import atomic_files, atomic_folder, sweep
from polsess.system_errors import system_error

NAMES = ("s1.wav", "s2.wav", "s3.wav")


def write(folder: Path, text: str, *, overwrite: bool = True) -> None:
    targets = [folder / name for name in NAMES]
    with atomic_files(targets, overwrite=overwrite) as temporaries:
        for temporary in temporaries:
            temporary.write_text(text)


def contents(folder: Path) -> dict[str, str]:
    """Every file of a folder, hidden ones too."""
    return {path.name: path.read_text() for path in folder.iterdir()}


def fail_at(call: int, function: Any, number: int = errno.ENOSPC) -> Callable[..., Any]:
    """A function whose ``call``-th use fails as a full disk does."""
    calls = iter(range(10**6))

    def failing(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == call:
            raise OSError(number, os.strerror(number))
        return function(*args, **kwargs)

    return failing


def test_files_appear_together(tmp_path: Path) -> None:
    write(tmp_path / "new", "first")
    write(tmp_path / "new", "second")
    assert contents(tmp_path / "new") == dict.fromkeys(NAMES, "second")
    assert (tmp_path / "new" / "s1.wav").stat().st_mode & 0o777 == 0o666 & ~publication._umask()


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("overwrite", [True, False])
@pytest.mark.parametrize("call", range(8))
@pytest.mark.parametrize("name", ["fsync", "replace", "link", "rename"])
def test_a_failure_at_any_step_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, call: int, overwrite: bool, before: bool
) -> None:
    if before:
        write(tmp_path, "old")
    monkeypatch.setattr(os, name, fail_at(call, getattr(os, name)))
    error: OSError | None = None
    try:
        write(tmp_path, "new", overwrite=overwrite)
    except OSError as caught:
        error = caught
    if error is not None:
        assert Path(error.filename).name in NAMES
        assert isinstance(error, FileExistsError) or "No space left on the disk" in str(error)
    text = contents(tmp_path)
    whole = [dict.fromkeys(NAMES, "new"), dict.fromkeys(NAMES, "old") if before else {}]
    assert text in whole


def test_a_failure_leaves_no_folder_that_was_made_for_it(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    for place in (tmp_path / "new" / "deep", tmp_path / "old"):
        for write_nothing in (atomic_files([place / "a"]), atomic_folder(place / "a")):
            with pytest.raises(ValueError, match="no network"), write_nothing:
                raise ValueError("no network")
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


def test_of_two_writers_of_one_name_the_second_fails(tmp_path: Path) -> None:
    def write_meanwhile() -> None:
        with atomic_files([tmp_path / "s1.wav"], overwrite=False) as (temporary,):
            temporary.write_text("mine")
            (tmp_path / "s1.wav").write_text("theirs")

    with pytest.raises(FileExistsError) as caught:
        write_meanwhile()
    assert caught.value.filename == str(tmp_path / "s1.wav")
    assert contents(tmp_path) == {"s1.wav": "theirs"}


@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_links_to_one_file_are_refused(tmp_path: Path, link: Any) -> None:
    (tmp_path / "s1.wav").write_text("old")
    link(tmp_path / "s1.wav", tmp_path / "s2.wav")
    with pytest.raises(ValueError, match=r"s2.wav and .*s1.wav are one file"):
        write(tmp_path, "new")
    assert contents(tmp_path) == {"s1.wav": "old", "s2.wav": "old"}


KILLED = """
import os, sys
from pathlib import Path
from polsess import publication
from polsess.publication import atomic_files, atomic_folder

calls = iter(range(10**6))
for name in ("replace", "rename", "link"):
    def placed(*args, function=getattr(os, name), **kwargs):
        if next(calls) == int(sys.argv[2]):
            os._exit(9)
        return function(*args, **kwargs)
    setattr(os, name, placed)
if sys.argv[4:] == ["folder"]:
    publication._exchange = lambda *names: False
    with atomic_folder(Path(sys.argv[1])) as temporary:
        (temporary / "file").write_text("new")
else:
    targets = [Path(sys.argv[1]) / name for name in ("s1.wav", "s2.wav", "s3.wav")]
    with atomic_files(targets, overwrite=sys.argv[3] == "True") as temporaries:
        for temporary in temporaries:
            temporary.write_text("new")
"""


def run_killed(folder: Path, call: int, *words: str) -> int:
    command = [sys.executable, "-c", KILLED, str(folder), str(call), *words]
    return subprocess.run(command, capture_output=True, check=False).returncode


@pytest.mark.parametrize(("overwrite", "call"), [(True, 0), (True, 1), (True, 3), (False, 0), (False, 2)])
def test_what_a_kill_leaves_is_finished_or_removed(tmp_path: Path, overwrite: bool, call: int) -> None:
    if overwrite:
        write(tmp_path, "old")
    assert run_killed(tmp_path, call, str(overwrite)) == 9
    assert any(name.startswith(".polsess-") for name in contents(tmp_path))
    sweep(tmp_path)
    assert contents(tmp_path) == dict.fromkeys(NAMES, "new")


@pytest.mark.parametrize("call", [0, 1, 2])
def test_a_folder_between_two_renames_is_finished(tmp_path: Path, call: int) -> None:
    with atomic_folder(tmp_path / "model") as temporary:
        (temporary / "file").write_text("old")
    assert run_killed(tmp_path / "model", call, "True", "folder") == 9
    sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert (tmp_path / "model" / "file").read_text() in ("old", "new")


def test_a_folder_is_exchanged_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("old", "new"):
        with atomic_folder(tmp_path / "model") as temporary:
            (temporary / "file").write_text(text)
        if sys.platform == "linux":
            monkeypatch.setattr(os, "rename", fail_at(0, os.rename))  # is not needed
    assert (tmp_path / "model" / "file").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_folders_within_a_folder_can_be_entered(tmp_path: Path) -> None:
    mask = os.umask(0o027)
    try:
        with atomic_folder(tmp_path / "page") as temporary:
            (temporary / "sounds" / "inner").mkdir(parents=True)
            (temporary / "sounds" / "inner" / "a.wav").write_text("a")
            (temporary / "link").symlink_to("nowhere")
    finally:
        os.umask(mask)
    modes = {path.name: path.lstat().st_mode & 0o777 for path in (tmp_path / "page").rglob("*")}
    assert {**modes, "link": 0} == {"sounds": 0o750, "inner": 0o750, "a.wav": 0o640, "link": 0}
    assert (tmp_path / "page").stat().st_mode & 0o777 == 0o750


def test_files_of_living_processes_and_of_other_hosts_stay(tmp_path: Path) -> None:
    ours, parents = (
        f".polsess-{publication._HOST}-{number}-abc.wav" for number in (os.getpid(), os.getppid())
    )
    kept = [ours, parents, ".polsess-00000000-1-abc.wav", ".polsess-notes", "s1.wav"]
    old = ".polsess-00000000-2-abc.wav"
    for name in (*kept, old):
        (tmp_path / name).write_text("")
    os.utime(tmp_path / old, (0, 0))
    sweep(tmp_path)
    assert set(contents(tmp_path)) == set(kept)


def test_a_journal_names_no_file_elsewhere(tmp_path: Path) -> None:
    folder = tmp_path / "outputs"
    folder.mkdir()
    dead = run_killed(folder, 0, "True")
    assert dead == 9
    (journal,) = folder.glob("*.journal")
    journal.write_text(journal.read_text().replace("s1.wav", "../s1.wav"))
    sweep(folder)
    assert not (tmp_path / "s1.wav").exists()
    assert contents(folder) == {}


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (errno.ENOSPC, "No space left on the disk"),
        (errno.EDQUOT, "The disk quota"),
        (errno.EFBIG, "ulimit -f"),
        (errno.EROFS, "system is read-only"),
        (errno.EACCES, "Permission denied"),
        (errno.EIO, "input/output error"),
    ],
)
def test_an_error_of_the_system_names_the_file_and_what_helps(tmp_path: Path, number: int, text: str) -> None:
    def hidden() -> None:
        try:
            raise OSError(number, os.strerror(number))
        except OSError as error:
            raise RuntimeError("PytorchStreamWriter failed writing file") from error

    for failing in (hidden, fail_at(0, None, number)):
        with pytest.raises(OSError, match=text) as caught, atomic_files([tmp_path / "a.pt"]):
            failing()
        assert (caught.value.errno, caught.value.filename) == (number, str(tmp_path / "a.pt"))
    rust = RuntimeError(f"I/O error: {os.strerror(number)} (os error {number})")
    assert text in str(system_error(rust, tmp_path / "a.pt"))


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    for error in (RuntimeError("a worker was killed"), ValueError("no space"), OSError(errno.EPIPE, "pipe")):
        with pytest.raises(type(error)) as caught, atomic_files([tmp_path / "a.pt"]):
            raise error
        assert caught.value is error
    with pytest.raises(FileNotFoundError) as missing, atomic_files([tmp_path / "a.pt"]):
        (tmp_path / "input.wav").read_bytes()
    assert missing.value.filename == str(tmp_path / "input.wav")
