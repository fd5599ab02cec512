"""Facts that a result depends on besides the program: machine, packages, and the commit of the code."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_GIT_SECONDS = 10
_PROCESSORS = Path("/proc/cpuinfo")
_MEMORY, _STATUS = Path("/proc/meminfo"), Path("/proc/self/status")
_CONTAINER = Path("/sys/fs/cgroup")


def installed_version(package: str) -> str | None:
    """The version of an installed package; None if it is not there."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def processor_name() -> str:
    """Name of the processor as the system gives it."""
    name = _processor_facts().get("model name", "")
    return name or platform.processor() or platform.machine()


def _processor_facts() -> dict[str, str]:
    """Facts of the last processor that the system lists; empty where it lists none."""
    if not _PROCESSORS.exists():
        return {}
    lines = (line.partition(":") for line in _PROCESSORS.read_text().splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, _, value in lines}


def processor_details() -> str:
    """The name with family, model and vector instructions, which differ among processors of one name."""
    if not _PROCESSORS.exists():
        return processor_name()
    facts = _processor_facts()
    flags = processor_flags()
    wide = "AVX-512" if "avx512f" in flags else "AVX2" if "avx2" in flags else "no AVX2"
    numbers = f"family {facts.get('cpu family', '?')}, model {facts.get('model', '?')}"
    return f"{processor_name()} ({numbers}, {wide})"


def processor_vendor() -> str:
    """``AMD``, ``Intel``, or the name that the system gives; empty if it gives none."""
    name = _processor_facts().get("vendor_id", "") or platform.processor().rpartition(", ")[2]
    return {"AuthenticAMD": "AMD", "GenuineIntel": "Intel"}.get(name, name)


def processor_flags() -> frozenset[str]:
    """Names of the processor's instruction sets as Linux gives them; empty elsewhere."""
    return frozenset(_processor_facts().get("flags", "").split())


def load_average() -> float | None:
    """Load average of the last minute; None where the system does not report it."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def memory_gib(kind: str = "MemTotal") -> float | None:
    """Physical memory, all or ``MemAvailable``; None where the system does not report it."""
    if not _MEMORY.exists():
        return None
    values = dict(line.split(":", 1) for line in _MEMORY.read_text().splitlines())
    return round(int(values[kind].split()[0]) / 2**20, 1)


def free_memory() -> int | None:
    """Bytes that a process may still take: of the machine, or of its container; None if that is unknown."""
    if not _MEMORY.exists():
        return None
    free = int(_MEMORY.read_text().partition("MemAvailable:")[2].split()[0]) * 1024
    limit, used = (_CONTAINER / name for name in ("memory.max", "memory.current"))
    try:
        return min(free, max(0, int(limit.read_text()) - int(used.read_text())))
    except (OSError, ValueError):  # no container, or one without a limit
        return free


def process_memory() -> tuple[int, int] | None:
    """Bytes that this process holds, and the most that it has held; None where the system does not say."""
    if not _STATUS.exists():
        return None
    lines = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines() if ":" in line)
    held, most = (int(lines[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM"))
    return held, most


def code_commit(folder: Path) -> dict[str, str | bool] | None:
    """The commit of a folder's code and whether files in it differ from the commit.

    Args:
        folder: A folder of a git checkout.

    Returns:
        ``commit`` and ``dirty``; None where there is no checkout or no git.
    """
    commit = _git(folder, ["rev-parse", "HEAD"])
    changes = _git(folder, ["status", "--porcelain", "--", "."])
    if commit is None or changes is None:
        return None
    return {"commit": commit, "dirty": changes != ""}


def _git(folder: Path, arguments: Sequence[str]) -> str | None:
    program = shutil.which("git")
    if program is None:
        return None
    command = [program, "-C", str(folder), *arguments]
    try:
        result = subprocess.run(  # noqa: S603 - a fixed command, no shell
            command, capture_output=True, text=True, timeout=_GIT_SECONDS, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip() if result.returncode == 0 else None
