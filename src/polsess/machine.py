"""What a result depends on beside the program: machine, packages, and the commit of the code."""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_GIT_SECONDS = 10


def installed_version(package: str) -> str | None:
    """The version of an installed package; None if it is not there."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def processor_name() -> str:
    """As the system names it."""
    table = Path("/proc/cpuinfo")
    if table.exists():
        for line in table.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def memory_gib(kind: str = "MemTotal") -> float | None:
    """Physical memory, all or ``MemAvailable``; None where the system does not tell."""
    table = Path("/proc/meminfo")
    if not table.exists():
        return None
    values = dict(line.split(":", 1) for line in table.read_text().splitlines())
    return round(int(values[kind].split()[0]) / 2**20, 1)


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
