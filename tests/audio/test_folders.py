"""Folders are searched as users leave them: links, files that systems add, other kinds, no permission."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from polsess.audio import list_sounds


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.fixture(autouse=True)
def _no_ffmpeg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")


def test_sounds_are_found_and_others_counted(tmp_path: Path) -> None:
    touch(
        *(tmp_path / name for name in ("b.WAV", "a.flac", "sub/c.mp3", "x.txt", "y.txt", "z.m4a", "README"))
    )
    touch(*(tmp_path / name for name in ("._a.flac", ".DS_Store", "__MACOSX/d.wav", ".git/e.wav")))
    found = list_sounds(tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in found.paths] == ["a.flac", "b.WAV", "sub/c.mp3"]
    assert found.others == {".txt": 2, ".m4a": 1, "": 1}
    note = found.note()
    assert note is not None
    assert note.startswith("4 files of other kinds passed over: .txt 2")
    assert "install ffmpeg" in note
    assert list_sounds(tmp_path / "sub").note() is None
    assert len(list_sounds(tmp_path, deep=False).paths) == 2


def test_ffmpeg_adds_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin" / "ffmpeg"
    touch(program, tmp_path / "data" / "a.m4a")
    program.chmod(0o755)
    assert not list_sounds(tmp_path / "data").paths
    monkeypatch.setenv("PATH", str(program.parent))
    assert list_sounds(tmp_path / "data").paths == [tmp_path / "data" / "a.m4a"]


def test_links_are_followed_once(tmp_path: Path) -> None:
    touch(tmp_path / "store" / "a.wav", tmp_path / "data" / "b.wav")
    (tmp_path / "data" / "linked").symlink_to(tmp_path / "store")
    (tmp_path / "store" / "loop").symlink_to(tmp_path / "data")
    (tmp_path / "data" / "again").symlink_to(tmp_path / "store")
    names = [path.name for path in list_sounds(tmp_path / "data").paths]
    assert sorted(names) == ["a.wav", "b.wav"]


def test_a_folder_that_cannot_be_listed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / "a.wav", tmp_path / "closed" / "b.wav")
    scandir = os.scandir

    def refuse(path: Any) -> Iterator[os.DirEntry[str]]:  # root may list everything
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(PermissionError):
        list_sounds(tmp_path)
    problems: list[str] = []
    assert list_sounds(tmp_path, on_error=problems.append).paths == [tmp_path / "a.wav"]
    assert problems == [f"{tmp_path / 'closed'}: cannot be listed: Permission denied."]
