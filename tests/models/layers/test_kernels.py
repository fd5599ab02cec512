from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from polsess.models.layers import kernels
from polsess.models.layers.kernels import load_kernel


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache and sources of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(kernels, "_FOLDER", tmp_path)
    kernels._load_once.cache_clear()
    yield tmp_path
    kernels._load_once.cache_clear()


@pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler")
def test_a_source_is_built_once_and_again_when_it_changes(fresh: Path) -> None:
    source = fresh / "answer.cpp"
    source.write_text('extern "C" int answer() { return 42; }')
    library = load_kernel("answer")
    assert library is not None
    assert library.answer() == 42
    assert load_kernel("answer") is library
    source.write_text('extern "C" int answer() { return 43; }')
    kernels._load_once.cache_clear()
    again = load_kernel("answer")
    assert again is not None
    assert again.answer() == 43
    built = sorted(path.name for path in (fresh / "cache/polsess/kernels").iterdir())
    assert len(built) == 2  # and nothing of the builds' own folders
    assert all(name.startswith("answer-") for name in built)


def test_threads_wait_for_one_build(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (fresh / "answer.cpp").write_text("")
    builds: list[Path] = []

    def build(*paths: Path) -> None:
        builds.append(paths[0])
        time.sleep(0.2)
        raise RuntimeError("no compiler")

    monkeypatch.setattr(kernels, "_build", build)
    monkeypatch.setenv("CXX", "sh")
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(load_kernel, ["answer"] * 4)) == [None] * 4
    assert len(builds) == 1


@pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler")
def test_a_failed_build_is_said_once(fresh: Path, caplog: pytest.LogCaptureFixture) -> None:
    (fresh / "broken.cpp").write_text("not C++")
    with caplog.at_level(logging.WARNING):
        assert load_kernel("broken") is None
        assert load_kernel("broken") is None
    assert len(caplog.records) == 1
    assert "'broken' cannot be built" in caplog.text


def test_without_a_compiler_or_when_switched_off_there_is_none(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (fresh / "answer.cpp").write_text('extern "C" int answer() { return 42; }')
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert load_kernel("answer") is None
    monkeypatch.setenv("POLSESS_KERNELS", "off")
    assert load_kernel("mamba") is None
