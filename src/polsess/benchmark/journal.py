"""What a run has done so far, a line of JSON per step, so that an interrupted run goes on."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from polsess.benchmark.conditions import current_conditions
from polsess.benchmark.results import Conditions, Facts, PeerResult, Settings, Skip, Timing
from polsess.files import write_text
from polsess.schema import ConfigError, Schema, parse

JOURNAL, RESULT = "journal.jsonl", "results.json"


class Plan(Schema):
    """The first line: what is measured; a journal of another plan is not continued."""

    settings: Settings
    names: tuple[str, ...]
    against: tuple[str, ...] = ()


class Visit(Schema):
    """One round of one model; ``spent_seconds`` of passes alone."""

    name: str
    round: int
    spent_seconds: float
    load_seconds: tuple[float, ...] = ()
    timings: tuple[Timing, ...] = ()
    skips: tuple[Skip, ...] = ()


class Preparation(Schema):
    """What a model is, or why it cannot be measured."""

    name: str
    facts: Facts | None = None
    failure: str = ""


class Entry(Schema):
    """One line after the first two; exactly one field is there."""

    preparation: Preparation | None = None
    visit: Visit | None = None
    peer: PeerResult | None = None


class Journal:
    """The lines of a run.

    Args:
        path: The file.
        plan: What is to be measured.
        conditions: Those of now; a run that is continued keeps those of its start.

    Raises:
        ConfigError: If the file belongs to another plan or is damaged.
    """

    def __init__(self, path: Path, plan: Plan, conditions: Conditions) -> None:
        self.path, self.plan, self.conditions = path, plan, conditions
        self.entries: list[Entry] = []
        if path.is_file():
            self._restore()
        else:
            write_text(path, _line(plan) + _line(conditions))

    def add(self, **entry: Any) -> None:
        """Write a step and hand it to the system, so that a killed process loses nothing."""
        added = Entry(**entry)
        self.entries.append(added)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(_line(added))
            file.flush()
            os.fsync(file.fileno())

    def visits(self, name: str) -> list[Visit]:
        """Of one model, in their order."""
        return [entry.visit for entry in self.entries if entry.visit and entry.visit.name == name]

    def preparation(self, name: str) -> Preparation | None:
        """Of one model; None before it."""
        found = [each.preparation for each in self.entries if each.preparation]
        return next((each for each in found if each.name == name), None)

    def peers(self) -> Iterator[PeerResult]:
        """Those that are done."""
        return (entry.peer for entry in self.entries if entry.peer)

    def _restore(self) -> None:
        text = self.path.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]  # an unfinished line has no end
        try:
            plan, conditions, *entries = [json.loads(line) for line in whole.splitlines()]
        except ValueError:
            raise ConfigError(f"{self.path}: damaged; start anew with --overwrite.") from None
        if parse(Plan, plan, str(self.path)) != self.plan:
            raise ConfigError(
                f"{self.path}: belongs to a run with other models or settings. "
                "Choose another folder with -o, or pass --overwrite."
            )
        self.conditions = parse(Conditions, conditions, str(self.path))
        self.entries = [parse(Entry, entry, str(self.path)) for entry in entries]
        if whole != text:
            write_text(self.path, whole)


def open_journal(plan: Plan, folder: Path, *, overwrite: bool = False) -> Journal:
    """The journal of a run in a folder: that of an interrupted one, or a new one.

    Raises:
        ConfigError: If the folder holds another run, or a finished one.
    """
    path = folder / JOURNAL
    finished = folder / RESULT
    if overwrite:
        for name in (path, finished):
            name.unlink(missing_ok=True)
    elif finished.is_file() and not path.is_file():
        raise ConfigError(
            f"{finished}: is a finished run. Choose another folder with -o, or pass --overwrite."
        )
    return Journal(path, plan, current_conditions(plan.settings.device))


def _line(data: Schema) -> str:
    return data.model_dump_json() + "\n"
