"""The evaluations of a report: opened, named, and grouped by their list of utterances."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from polsess.evaluation import Evaluation, SavedEvaluation
from polsess.evaluation.storage import find_evaluations
from polsess.metrics import lower_is_better
from polsess.schema import ConfigError


@dataclass(frozen=True)
class Run:
    """One evaluation under the name that the report gives it."""

    name: str
    opened: SavedEvaluation

    @property
    def evaluation(self) -> Evaluation:
        """Its rows."""
        return self.opened.evaluation


@dataclass(frozen=True)
class Group:
    """Runs on one list of utterances."""

    title: str
    """Name of the data, from the folder of the results."""
    runs: tuple[Run, ...]

    @property
    def names(self) -> list[str]:
        """Names of the systems."""
        return [run.name for run in self.runs]

    def ranked(self, column: str) -> list[tuple[str, float]]:
        """Utterances with a score in every run, from the worst mean over the runs to the best."""
        scores: dict[str, list[float]] = {}
        for run in self.runs:
            for row in run.evaluation.rows:
                scores.setdefault(row.identifier, []).append(row.value(column))
        means = {name: float(np.mean(values)) for name, values in scores.items()}
        return sorted(
            ((name, mean) for name, mean in means.items() if math.isfinite(mean)),
            key=lambda pair: pair[1],
            reverse=lower_is_better(column),
        )


def open_runs(sources: Sequence[str], device: str = "auto") -> list[Run]:
    """Open finished evaluations.

    Args:
        sources: ``FOLDER`` or ``NAME=FOLDER``, as ``polsess evaluate`` wrote them; a folder may also hold
            several such folders, of which all are taken.
        device: Device of models whose estimates were not saved.

    Raises:
        FileNotFoundError: If a folder holds no finished evaluation.
        ConfigError: If a name is given to several evaluations.
    """
    runs = []
    for source in sources:
        name, _, path = source.rpartition("=")
        folders = find_evaluations(Path(path))
        if name and len(folders) > 1:
            raise ConfigError(f"report: {name}={path} holds {len(folders)} evaluations; name each.")
        for folder in folders:
            opened = SavedEvaluation(folder, device)
            runs.append(Run(name or opened.evaluation.system, opened))
    return runs


def group_runs(runs: Sequence[Run]) -> list[Group]:
    """Group the runs that have equal lists of utterances, in the order given.

    Raises:
        ConfigError: If two systems on one list have one name.
    """
    by_list: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        key = (run.evaluation.list_hash, str(run.evaluation.settings.get("task")))
        by_list.setdefault(key, []).append(run)
    for together in by_list.values():
        names = [run.name for run in together]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ConfigError(f"report: two systems have the name '{twice[0]}'; write NAME=FOLDER.")
    return [Group(_title(together[0], key[1]), tuple(together)) for key, together in by_list.items()]


def _title(run: Run, task: str) -> str:
    return f"{run.opened.folder.resolve().parent.name}, task {task}"
