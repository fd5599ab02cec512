"""When it goes wrong: values that are not finite, memory that runs out, signals that ask to stop."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from polsess.data import Batch, LoadingError
from polsess.files import atomic_path
from polsess.journal import Journal
from polsess.training.forensics import first_non_finite_module

if TYPE_CHECKING:
    from polsess.training.module import SeparationModule


class TrainingStopped(RuntimeError):
    """A run ended early and cleanly; the message says why and how to go on."""


class Preempted(TrainingStopped):
    """A signal asked the run to end; the last checkpoint holds everything."""

    def __init__(self, received: signal.Signals, checkpoint: Path) -> None:
        super().__init__(
            f"Stopped by {received.name}; {checkpoint} holds everything: continue with --resume."
        )
        self.received = received


class NonFiniteLog:
    """Writes down every loss or gradient that was not finite, and ends the run when there are too many.

    Args:
        folder: The run's folder; receives ``non_finite.jsonl`` and, at the end, ``replay.pt``.
        limit: Steps that may be left out.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = folder
        self.limit = limit
        self.count = 0

    def describe(self, module: SeparationModule, batch_idx: int, batch: Batch, what: str) -> dict[str, Any]:
        """What is written down of a batch.

        Args:
            module: Says which step it is.
            batch_idx: The batch's number within its epoch.
            batch: The batch.
            what: What was not finite in it.
        """
        return {
            "epoch": module.current_epoch,
            "step": module.global_step,
            "batch": batch_idx,
            "process": module.global_rank,
            "what": what,
            "first_module": first_non_finite_module(module.model, batch.mixture),
            "items": batch.identifiers,
            "keys": [list(key) for key in batch.keys],
        }

    def add(self, module: SeparationModule, records: list[dict[str, Any]]) -> None:
        """Take note of a step that is left out; all processes do so together.

        Args:
            module: The run.
            records: What each process describes. Where losses were bad, the others only heard of it.

        Raises:
            TrainingStopped: If this is one too many; a file to reproduce it has then been written.
        """
        self.count += 1
        records = [each for each in records if each["what"].startswith("loss")] or records
        if module.trainer.is_global_zero:
            Journal(self.folder / "non_finite.jsonl").append(*records)
        if self.count > self.limit:
            self._stop(module, records[0])

    def _stop(self, module: SeparationModule, record: dict[str, Any]) -> None:
        replay = self.folder / "replay.pt"
        whole = module.trainer.strategy.lightning_module_state_dict()  # also where it is sharded
        model = {name[len("model.") :]: value for name, value in whole.items() if name.startswith("model.")}
        if module.trainer.is_global_zero:
            with atomic_path(replay) as temporary:
                torch.save({"record": record, "config": module.run_config, "model": model}, temporary)
        raise TrainingStopped(
            f"{self.count} steps were left out because the loss or gradient was not finite (limit "
            f"{self.limit}); first in {record['first_module']}. Reproduce it: polsess train --replay {replay}"
        )


class RunningStatistics:
    """The running means of batch normalisation, which a bad batch reaches before its loss is known."""

    def __init__(self) -> None:
        self._kept: list[tuple[Tensor, Tensor]] = []

    def keep(self, model: nn.Module) -> None:
        """Remember them as they are before a step."""
        norms = (norm for norm in model.modules() if isinstance(norm, nn.modules.batchnorm._BatchNorm))
        self._kept = [(buffer, buffer.clone()) for norm in norms for buffer in norm.buffers()]

    def restore(self) -> None:
        """Put them back, because the step is left out."""
        for buffer, old in self._kept:
            buffer.copy_(old)


@contextmanager
def loading_explained(last: Path) -> Iterator[None]:
    """End a run clearly when an example cannot be read or a process that prepares batches dies.

    Args:
        last: The run's last checkpoint.

    Raises:
        TrainingStopped: Naming the file or the process, and what of the run is kept.
    """
    try:
        yield
    except LoadingError as error:
        advice = "Mend or remove it (data.corpus.max_bad leaves such recordings out where a corpus has it)."
        raise TrainingStopped(f"{error}. {advice} {_what_is_kept(last)}") from error
    except RuntimeError as error:
        text = str(error).split("\n")[0].strip().rstrip(".")
        if not text.startswith("DataLoader worker"):
            raise
        _kill_workers()
        advice = "Often memory has run out: try a smaller data.num_workers or data.batch_size."
        raise TrainingStopped(f"{text}. {advice} {_what_is_kept(last)}") from error


def _kill_workers() -> None:
    """End the processes that are left: some wait for a lock of the dead one and ignore SIGTERM."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler would raise for each, anywhere
    for worker in multiprocessing.active_children():
        worker.kill()


def _what_is_kept(last: Path) -> str:
    return f"{last} is kept: continue with --resume." if last.is_file() else "Nothing had been saved yet."


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error means that memory ran out, on an accelerator or the CPU."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


class StopSignals:
    """Remembers a signal until the next step boundary; handlers do nothing else."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listen to SIGINT, SIGTERM and SIGUSR1 (preemption, SLURM's warning) within the block."""
        old = {number: signal.getsignal(number) for number in _STOPPING}
        self.install()
        try:
            yield
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)

    def install(self) -> None:
        """Take the signals over, also from a library that has done so meanwhile."""
        for number in _STOPPING:
            signal.signal(number, self._remember)

    def _remember(self, number: int, _frame: FrameType | None) -> None:
        if self.received is signal.SIGINT and number == signal.SIGINT:
            raise KeyboardInterrupt  # asked twice: at once
        self.received = signal.Signals(number)


_STOPPING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)]
