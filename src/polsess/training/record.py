"""The record of a run: command, code, machine and data of every start, and what a resume may change."""

from __future__ import annotations

import fnmatch
import json
import platform
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

import polsess
from polsess.config import Config
from polsess.data import Corpus
from polsess.dependencies import list_extras
from polsess.dotted_keys import flatten
from polsess.files import read_json, write_text
from polsess.machine import code_commit, installed_version, memory_gib, processor_name
from polsess.processes import num_processors
from polsess.schema import ConfigError

RECORD = "environment.json"
"""The file in a run's folder: a list of the run's starts, the first one first."""

_MAX_BYTES = 64 << 20
_PACKAGES = ("polsess-separation", "torch", "numpy", "soundfile", "soxr", "pydantic", "safetensors")


_FIXED = (
    "task",
    "seed",
    "model.*",
    "data.*",
    "training.freeze",
    "training.optimizer.name",
    "training.accumulate_batches",
    "training.devices",
    "training.num_nodes",
)
"""Settings on which the state of a run depends; a resumed run may not change them."""
_FREE = ("data.num_workers", "training.init", "training.reset_head")
"""Exceptions: settings without effect on a resumed run."""


class ChangedDataError(ValueError):
    """The corpus of a resumed run is not the one that it began with."""


class RunRecord:
    """The starts of a run; a resumed one adds an entry.

    Args:
        folder: The run's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / RECORD
        self.starts = _read(self.path)

    def check_data(self, data: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """See that the corpora are those of the last start.

        Args:
            data: What ``describe_data`` gives.

        Returns:
            Remarks for the user.

        Raises:
            ChangedDataError: If they are others.
        """
        if not self.starts:
            return [f"{self.path} is missing, so the data cannot be compared with that of the run."]
        known = self.starts[-1].get("data", {})
        for split, now in data.items():
            then = known.get(split, {})
            if then.get("fingerprint") != now["fingerprint"]:
                raise ChangedDataError(
                    f"data.corpus: the {split} split has {now['examples']} examples of fingerprint "
                    f"{now['fingerprint'][:12]}, the run began with {then.get('examples')} of "
                    f"{str(then.get('fingerprint'))[:12]}. Bring the old data back, or begin another run "
                    f"with --init {self.path.parent}."
                )
        return []

    @contextmanager
    def start(self, **facts: Any) -> Iterator[dict[str, Any]]:
        """Write an entry down, and how it ended when the block is left.

        Args:
            **facts: What else to write, plain data.

        Yields:
            The entry; ``outcome`` may be set if the run ends neither completed nor with an error.
        """
        entry = {"started": _now(), "ended": None, "outcome": "running", **facts, **describe_environment()}
        self.starts.append(entry)
        self._write()
        try:
            yield entry
        except BaseException as error:
            with suppress(OSError):  # on a disk that is full the run's own error is the one to report
                self._end(entry, f"{type(error).__name__}: {error}")
            raise
        self._end(entry, "completed" if entry["outcome"] == "running" else entry["outcome"])

    def _end(self, entry: dict[str, Any], outcome: str) -> None:
        entry |= {"ended": _now(), "outcome": outcome}
        self._write()

    def _write(self) -> None:
        write_text(self.path, json.dumps({"starts": self.starts}, indent=2, ensure_ascii=False) + "\n")


def describe_data(corpora: Sequence[Corpus]) -> dict[str, dict[str, Any]]:
    """Examples and fingerprint of each split."""
    return {
        str(corpus.split): {"examples": len(corpus), "fingerprint": corpus.fingerprint()}
        for corpus in corpora
    }


def describe_environment() -> dict[str, Any]:
    """Command, code, packages and machine, as plain data."""
    versions = {name: installed_version(name) for name in (*_PACKAGES, *sorted(list_extras()))}
    cuda = range(torch.cuda.device_count() if torch.cuda.is_available() else 0)
    return {
        "command": shlex.join(sys.argv),
        "folder": str(Path.cwd()),
        "code": code_commit(Path(polsess.__file__).parent),
        "python": platform.python_version(),
        "packages": {name: found for name, found in versions.items() if found is not None},
        "platform": platform.platform(),
        "host": platform.node(),
        "processor": processor_name(),
        "processors": num_processors(),
        "threads": torch.get_num_threads(),
        "memory_gib": memory_gib(),
        "cuda": torch.version.cuda,
        "accelerators": [torch.cuda.get_device_name(index) for index in cuda],
    }


def _read(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    starts = read_json(path, max_bytes=_MAX_BYTES).get("starts")
    if not isinstance(starts, list) or not all(isinstance(entry, dict) for entry in starts):
        raise ConfigError(f"{path}: not the record of a run; move it away to go on.")
    return starts


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def changes_since(before: Mapping[str, Any], config: Config, run_folder: Path) -> dict[str, list[Any]]:
    """List the differences from the configuration that a run was stopped with.

    Args:
        before: That configuration, plain data.
        config: The configuration to resume with.
        run_folder: The run, for the message.

    Returns:
        Old and new value by key. Places of files do not count: the data's fingerprint is compared.

    Raises:
        ConfigError: If a change does not fit the state of the run.
    """
    before = dict(flatten(before))
    now = dict(flatten(json.loads(config.model_dump_json())))
    places = {key for key, value in flatten(config.model_dump()) if isinstance(value, Path)}
    keys = [*before, *(key for key in now if key not in before and _opens_section(key, before))]
    changed = {
        key: [before.get(key), now.get(key)]
        for key in keys  # those of a newer release have their defaults
        if now.get(key) != before.get(key) and key not in places and not _matches(key, _FREE)
    }
    fixed = [key for key in changed if _matches(key, _FIXED)]
    if _toggled(changed.get("training.ema_decay")):
        fixed.append("training.ema_decay")
    if fixed:
        each = ", ".join(f"{key} was {changed[key][0]!r}, is {changed[key][1]!r}" for key in fixed)
        raise ConfigError(
            f"{each}: a run cannot be resumed with another. Set it back, or begin a new run from its weights "
            f"with --init {run_folder}."
        )
    return changed


def _matches(key: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(key, pattern) for pattern in patterns)


def _opens_section(key: str, before: Mapping[str, Any]) -> bool:
    """Whether a section above the key was null."""
    parts = key.split(".")
    return any(".".join(parts[:depth]) in before for depth in range(1, len(parts)))


def _toggled(change: list[Any] | None) -> bool:
    """Whether an option was switched on or off."""
    return change is not None and (change[0] is None) != (change[1] is None)
