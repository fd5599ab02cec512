"""The journal of a run, so that an interrupted run continues: the plan, the conditions, then each step."""

from __future__ import annotations

import datetime
import platform
import time
from pathlib import Path
from typing import Generic, TypeVar

import torch

from polsess.benchmark.results import Conditions, Facts, Settings, Skip, Timing
from polsess.journal import Journal as Lines
from polsess.machine import installed_version, load_average, memory_gib, processor_details
from polsess.models.layers.kernels import load_kernel
from polsess.models.layers.products import choose_products, matmul
from polsess.processes import num_processors
from polsess.schema import ConfigError, Schema, parse

JOURNAL, RESULT = "journal.jsonl", "results.json"

EntryT = TypeVar("EntryT", bound=Schema)


class Plan(Schema):
    """First line of the journal; a journal of another plan is not continued."""

    settings: Settings
    names: tuple[str, ...]


class Visit(Schema):
    """One round of one model; ``spent_seconds`` are those of the passes alone."""

    name: str
    round: int
    spent_seconds: float
    load_seconds: tuple[float, ...] = ()
    timings: tuple[Timing, ...] = ()
    skips: tuple[Skip, ...] = ()


class Preparation(Schema):
    """Facts of a model, or the reason why it cannot be measured."""

    name: str
    facts: Facts | None = None
    failure: str = ""


class Step(Schema):
    """One line after the first two; exactly one field is set."""

    preparation: Preparation | None = None
    visit: Visit | None = None


class StepJournal(Generic[EntryT]):
    """The lines of a run in a folder: those of an interrupted run, or new ones.

    Args:
        plan: Plan of this run.
        entry_type: Schema of a step.
        folder: Folder of the run.
        overwrite: Whether to remove another run from the folder.

    Attributes:
        conditions: Conditions of the start; a run that is continued keeps them.
        entries: Steps that are done.

    Raises:
        ConfigError: If the folder holds another run or a finished one, or the file is damaged.
    """

    def __init__(self, plan: Plan, entry_type: type[EntryT], folder: Path, *, overwrite: bool) -> None:
        path, finished = folder / JOURNAL, folder / RESULT
        if overwrite:
            for each in (path, finished):
                each.unlink(missing_ok=True)
        elif finished.is_file() and not path.is_file():
            raise ConfigError(
                f"{finished}: is a finished run. Choose another folder with -o, or pass --overwrite."
            )
        self.path, self.plan = path, plan
        self._lines = Lines(path)
        try:
            lines = self._lines.restore()
        except ValueError:
            raise ConfigError(f"{path}: damaged; start anew with --overwrite.") from None
        if len(lines) < 2:
            self.conditions = current_conditions(plan.settings.device)
            self._lines.remove()
            self._lines.append(*(each.model_dump(mode="json") for each in (plan, self.conditions)))
        else:
            if parse(Plan, lines[0], str(path)) != plan:
                raise ConfigError(
                    f"{path}: belongs to a run with other models or settings. "
                    "Choose another folder with -o, or pass --overwrite."
                )
            self.conditions = parse(Conditions, lines[1], str(path))
        self.entries = [parse(entry_type, line, str(path)) for line in lines[2:]]

    def add(self, entry: EntryT) -> None:
        """Write a step to disk, so that a killed process loses none."""
        self.entries.append(entry)
        self._lines.append(entry.model_dump(mode="json"))


class Journal(StepJournal[Step]):
    """The steps of a run of models.

    Args:
        plan: Plan of this run.
        folder: Folder of the run.
        overwrite: Whether to remove another run from the folder.

    Raises:
        ConfigError: If the folder holds another run or a finished one, or the file is damaged.
    """

    def __init__(self, plan: Plan, folder: Path, *, overwrite: bool = False) -> None:
        super().__init__(plan, Step, folder, overwrite=overwrite)

    def visits(self, name: str) -> list[Visit]:
        """Return the visits of a model in their order."""
        return [each.visit for each in self.entries if each.visit and each.visit.name == name]

    def preparation(self, name: str) -> Preparation | None:
        """Return the preparation of a model; None before it."""
        found = [each.preparation for each in self.entries if each.preparation]
        return next((each for each in found if each.name == name), None)


def current_conditions(device: str) -> Conditions:
    """Return the conditions of this machine, now."""
    kind = torch.device(device).type
    name = f"{kind}: {torch.cuda.get_device_name(torch.device(device))}" if kind == "cuda" else kind
    return Conditions(
        date=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        processor=processor_details(),
        num_processors=num_processors(),
        memory_gib=memory_gib(),
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        torch=torch.__version__,
        polsess=installed_version("polsess-separation") or "from source",
        device=name,
        kernels=load_kernel("mamba") is not None,
        products=str(choose_products()),
        matrix_gflops=_matrix_gflops() if kind == "cpu" else None,
        load_before=load_average(),
    )


def _matrix_gflops(size: int = 1024, passes: int = 10) -> float:
    """The fastest of a few products, by processor time, which other programs lengthen little."""
    left, right = torch.randn(2, size, size).unbind()
    seconds = []
    with torch.no_grad():
        for _ in range(passes):
            start = time.process_time()
            matmul(left, right)
            seconds.append(time.process_time() - start)
    return 2e-9 * size**3 / min(seconds)
