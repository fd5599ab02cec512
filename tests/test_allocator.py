"""The allocator setting: applied on glibc, off on request, and large blocks really are reused."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from polsess.allocator import release_free_memory, tune_allocator

glibc_only = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")

FAULTS = """
import ctypes, resource, threading
from polsess.allocator import tune_allocator
tune_allocator()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.memset.argtypes = ctypes.c_void_p, (ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t)
libc.free.argtypes = (ctypes.c_void_p,)
def use():
    block = libc.malloc(2**26)
    libc.memset(block, 1, 2**26)
    libc.free(block)
for step in range(12):
    if step == 4:  # the heap has grown by then
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    thread = threading.Thread(target=use)
    thread.start() if step % 2 else use()
    thread.join() if step % 2 else None
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_default_leaves_the_allocator_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLSESS_ALLOCATOR", "default")
    assert tune_allocator() is False


def test_another_word_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLSESS_ALLOCATOR", "fast")
    with pytest.raises(ValueError, match="POLSESS_ALLOCATOR: expected"):
        tune_allocator()


def test_elsewhere_it_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POLSESS_ALLOCATOR", raising=False)
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert tune_allocator() is False


def test_free_memory_can_be_released_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    release_free_memory()
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    release_free_memory()


@glibc_only
def test_large_blocks_are_reused_by_all_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def page_faults(setting: str) -> int:
        monkeypatch.setenv("POLSESS_ALLOCATOR", setting)
        done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert page_faults("tuned") * 4 < page_faults("default")
