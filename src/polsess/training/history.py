"""Training runs of the past, read from their folders: finished, running, stopped or damaged."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import Any

from polsess.dotted_keys import flatten
from polsess.files import read_json
from polsess.folder_lock import find_owner
from polsess.training.monitor import Monitor, monitor_of

_MAX_BYTES = 64 << 20
_ON_PURPOSE = ("Preempted", "KeyboardInterrupt", "TrialPruned", "TimeIsUp")


class RunState(StrEnum):
    """The state of a run."""

    FINISHED = "finished"
    RUNNING = "running"
    STOPPED = "stopped"
    FAILED = "failed"
    DAMAGED = "damaged"


@dataclass(frozen=True)
class Epoch:
    """One row of ``metrics.csv``."""

    number: int
    """Counted from 0."""
    steps: int
    """Steps of the whole run up to the end of the epoch."""
    minutes: float
    """Since the start of the run that it belongs to; a resumed run starts again at 0."""
    score: float
    """The validation score that decides, which ``PastRun.monitor`` names."""
    loss: float
    """Mean training loss of the epoch."""


@dataclass(frozen=True)
class PastRun:
    """A run's folder, read."""

    folder: Path
    state: RunState
    settings: Mapping[str, Any]
    """The resolved configuration by dotted key."""
    epochs: Sequence[Epoch]
    num_parameters: int | None
    """Parameters of the model; None if its configuration cannot be read."""
    problems: Sequence[str]
    """Files that could not be read, and why the run ended."""
    resumed_in: frozenset[int] = frozenset()
    """Epochs in which later starts of the run began."""

    @property
    def monitor(self) -> Monitor:
        """The validation score that decides."""
        return _monitor(self.settings)

    @property
    def best(self) -> Epoch | None:
        """The epoch with the best validation score."""
        scored = [epoch for epoch in self.epochs if math.isfinite(epoch.score)]
        return max(scored, key=lambda epoch: self.monitor.gain(epoch.score), default=None)

    @property
    def minutes(self) -> float:
        """Training time of all starts together, up to the last complete epoch."""
        ends = [
            now.minutes
            for now, after in pairwise(self.epochs)
            if after.number in self.resumed_in or after.minutes < now.minutes
        ]
        return sum(ends) + (self.epochs[-1].minutes if self.epochs else 0.0)


def find_runs(folders: Sequence[Path]) -> list[PastRun]:
    """Read all runs in folders.

    Args:
        folders: Runs themselves, or folders that hold runs at any depth.

    Raises:
        FileNotFoundError: If a folder does not exist or holds no run.
    """
    found: dict[Path, None] = {}
    for folder in folders:
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder}: no such folder; name one that polsess train wrote.")
        runs = sorted({path.parent for path in folder.rglob("*") if _marks_a_run(path)})
        if not runs:
            raise FileNotFoundError(f"{folder}: no training run in it; name one that polsess train wrote.")
        found |= dict.fromkeys(runs)
    return [read_run(run) for run in found]


def read_run(folder: Path) -> PastRun:
    """Read one run; its ``problems`` name what cannot be read."""
    problems: list[str] = []
    config = _read_json(folder / "config.json", problems, needed=True)
    settings = dict(flatten(config))
    epochs = _read_epochs(folder / "metrics.csv", _monitor(settings).column, problems)
    record = _read_json(folder / "environment.json", problems, needed=False)
    _check_number(epochs, record, problems)
    num_parameters = _num_parameters(record, config.get("model"), problems)
    state = RunState.DAMAGED if problems else _state(folder, settings, epochs, record, problems)
    return PastRun(folder, state, settings, epochs, num_parameters, problems, _resumed_in(record))


def differing_keys(runs: Sequence[PastRun]) -> list[str]:
    """Settings that are not the same in all runs whose configuration could be read."""
    readable = [run.settings for run in runs if run.settings]
    keys = dict.fromkeys(key for settings in readable for key in settings)
    missing = object()
    return [
        key
        for key in keys
        if any(each.get(key, missing) != readable[0].get(key, missing) for each in readable)
    ]


def _marks_a_run(path: Path) -> bool:
    if path.name == "metrics.csv":
        return path.is_file()
    return path.name == "config.json" and (path.parent / "tensorboard").is_dir()


def _read_json(path: Path, problems: list[str], *, needed: bool) -> dict[str, Any]:
    if not path.is_file():
        if needed:
            problems.append(f"{path.name} is missing")
        return {}
    try:
        content: dict[str, Any] = read_json(path, max_bytes=_MAX_BYTES)
    except (ValueError, OSError) as error:
        problems.append(_one_line(error).replace(str(path), path.name))
        return {}
    return content


def _monitor(settings: Mapping[str, Any]) -> Monitor:
    return monitor_of(str(settings.get("task")))


def _read_epochs(path: Path, column: str, problems: list[str]) -> list[Epoch]:
    if not path.is_file():
        return []  # the first epoch is not done yet
    epochs: list[Epoch] = []
    first = 1
    try:
        for line, row in enumerate(csv.DictReader(_text(path).splitlines()), start=2):
            try:
                number = int(row["epoch"])
                first = 0 if line == 2 and number == 0 else first  # the first release counted from 0
                if number != first + len(epochs):
                    raise ValueError(f"epoch {number} does not follow the one before")
                epochs.append(_epoch(row, number - first, column))
            except (KeyError, ValueError, TypeError) as error:
                problems.append(f"{path.name}: line {line} cannot be read ({_one_line(error)})")
    except (csv.Error, ValueError, OSError) as error:
        problems.append(f"{path.name}: {_one_line(error)}")
    return epochs


def _epoch(row: Mapping[str, str], number: int, column: str) -> Epoch:
    return Epoch(
        number=number,
        steps=int(row["step"]),
        minutes=float(row["minutes_since_start"]),
        score=float(row[column]),
        loss=float(row["train_loss"]),
    )


def _check_number(epochs: Sequence[Epoch], record: Mapping[str, Any], problems: list[str]) -> None:
    """See that the table has the epochs that the last start had done when it ended."""
    done = (_starts(record) or [{}])[-1].get("epochs")
    if isinstance(done, int) and len(epochs) < done and not problems:
        problems.append(
            f"metrics.csv: {len(epochs)} epochs, but {done} were done; --resume restores the others"
        )


def _num_parameters(record: Mapping[str, Any], model: Any, problems: list[str]) -> int | None:
    """The recorded number; runs of the first release did not record it, so their model is built."""
    for start in _starts(record):
        if isinstance(count := start.get("parameters"), int):
            return count
    if model is None:
        return None
    import torch

    from polsess.models import Network, create_model, parse_model_config

    try:
        with torch.device("meta"):  # shapes without memory
            built = create_model(parse_model_config(model, kind=Network), kind=Network)
    except Exception as error:  # whatever a foreign configuration does to a constructor
        problems.append(f"config.json: no model can be made of it ({_one_line(error)})")
        return None
    return sum(parameter.numel() for parameter in built.parameters())


def _state(
    folder: Path,
    settings: Mapping[str, Any],
    epochs: Sequence[Epoch],
    record: Mapping[str, Any],
    problems: list[str],
) -> RunState:
    if find_owner(folder) is not None:
        return RunState.RUNNING
    last = (_starts(record) or [{}])[-1]
    outcome = str(last.get("outcome", "running"))
    if outcome == "completed" or (outcome == "running" and _is_complete(settings, epochs)):
        return RunState.FINISHED
    if outcome != "running":
        problems.append(_one_line(outcome))
        return RunState.STOPPED if outcome.startswith(_ON_PURPOSE) else RunState.FAILED
    problems.append("its process ended without a word; continue it with --resume")
    return RunState.STOPPED


def _starts(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    starts = record.get("starts")
    return [each for each in starts if isinstance(each, dict)] if isinstance(starts, list) else []


def _resumed_in(record: Mapping[str, Any]) -> frozenset[int]:
    places = (start.get("resumed_at") for start in _starts(record))
    epochs = [place.get("epoch") for place in places if isinstance(place, dict)]
    return frozenset(epoch for epoch in epochs if isinstance(epoch, int))


def _is_complete(settings: Mapping[str, Any], epochs: Sequence[Epoch]) -> bool:
    total, patience = (settings.get(f"training.{key}") for key in ("max_epochs", "early_stopping_patience"))
    if not epochs or not isinstance(total, int):
        return False
    best = max(epochs, key=lambda epoch: _monitor(settings).gain(epoch.score))
    waited = epochs[-1].number - best.number
    return epochs[-1].number + 1 >= total or (isinstance(patience, int) and waited >= patience)


def _text(path: Path) -> str:
    with path.open("rb") as file:
        content = file.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise ValueError(f"larger than {_MAX_BYTES >> 20} MiB")
    return content.decode("utf-8")


def _one_line(error: object) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
