"""What can go wrong in a run: values that are not finite, memory that runs out, data that cannot be read."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from polsess.data import LoadingError
from polsess.files import atomic_path
from polsess.journal import Journal
from polsess.training.distributed import is_main_process, loss_of_process


class TrainingStopped(RuntimeError):
    """A run ended early and cleanly; the message says why and how to go on."""


class NonFiniteLog:
    """Records every loss or gradient that is not finite, and ends the run when there are too many.

    Args:
        folder: The run's folder; receives ``non_finite.jsonl`` and, at the end, ``replay.pt``.
        limit: Steps that may be left out.
        run_config: Plain data of the whole configuration, for the replay.
    """

    def __init__(self, folder: Path, limit: int, run_config: Mapping[str, Any]) -> None:
        self.folder = folder
        self.limit = limit
        self.run_config = run_config
        self.count = 0

    def add(
        self, model: nn.Module, objective: nn.Module, records: list[dict[str, Any]], share_of_epoch: float
    ) -> None:
        """Note a step that is left out; all processes do so together.

        Args:
            model: The network; its weights are stored if the run ends here.
            objective: What it is trained for, whose parameters are stored as well.
            records: The description of each process's batch. Where a loss was not finite, the other
                processes have only received its gradient.
            share_of_epoch: Steps of this epoch that were left out, this one included, of all its steps.

        Raises:
            TrainingStopped: If the run's limit is exceeded, or more than half of the epoch is left out; a
                file to reproduce the step has then been written.
        """
        self.count += 1
        records = [each for each in records if each["what"].startswith("loss")] or records
        if is_main_process():
            Journal(self.folder / "non_finite.jsonl").append(*records)
        if self.count > self.limit:
            reason = f"{self.count} steps were left out (limit {self.limit})"
            self._stop(model, objective, records[0], reason)
        if share_of_epoch > 0.5:
            reason = f"{share_of_epoch:.0%} of the epoch's steps were left out"
            self._stop(model, objective, records[0], reason)

    def _stop(self, model: nn.Module, objective: nn.Module, record: dict[str, Any], reason: str) -> None:
        replay = self.folder / "replay.pt"
        if is_main_process():
            content = {
                "record": record,
                "config": dict(self.run_config),
                "model": model.state_dict(),
                "objective": objective.state_dict(),
            }
            with atomic_path(replay) as temporary:
                torch.save(content, temporary)
        raise TrainingStopped(
            f"{reason} because the loss or gradient was not finite; first in {record['first_module']}. Try a "
            f"smaller training.optimizer.learning_rate. Reproduce it: polsess train --replay {replay}"
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
    """End a run clearly when an example cannot be read, or when one of its processes dies.

    Args:
        last: The run's last checkpoint.

    Raises:
        TrainingStopped: Naming the file or the process, and what of the run is kept.
    """
    try:
        yield
    except LoadingError as error:
        advice = "Mend or remove it (data.corpus.max_bad leaves such recordings out where a corpus has it)."
        raise TrainingStopped(f"{error}. {advice} {what_is_kept(last)}") from error
    except RuntimeError as error:
        text = str(error).split("\n")[0].strip().rstrip(".")
        if lost := loss_of_process(error):
            raise TrainingStopped(
                f"Another process of the run has ended or cannot be reached ({lost}); its own message says "
                f"why, unless it was killed. {what_is_kept(last)}"
            ) from error
        no_shared_memory = "/torch_" in str(error)  # the names of blocks in it
        if not (no_shared_memory or text.startswith("DataLoader worker")):
            raise
        advice = (
            "Often memory or shared memory (/dev/shm) has run out: try a smaller data.num_workers or "
            "data.batch_size."
        )
        raise TrainingStopped(f"{text}. {advice} {what_is_kept(last)}") from error


@contextmanager
def workers_ended() -> Iterator[None]:
    """End the processes that were started within the block when it is left, however it is left.

    Those that prepare batches ignore the signals that ask a run to stop, and may wait for a lock that a dead
    one of them holds; Python would wait for them at its exit, for ever.
    """
    before = multiprocessing.active_children()
    try:
        yield
    finally:
        workers = [each for each in multiprocessing.active_children() if each not in before]
        if workers:
            _kill(workers)


def _kill(workers: list[multiprocessing.process.BaseProcess]) -> None:
    has_children_signal = hasattr(signal, "SIGCHLD")  # not on Windows
    if has_children_signal:  # torch's handler would raise for each of them, anywhere
        handler = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for worker in workers:
        worker.kill()
    for worker in workers:
        worker.join()
    if has_children_signal:
        signal.signal(signal.SIGCHLD, handler)


def what_is_kept(last: Path) -> str:
    """How to go on with a run that ended, for a message."""
    return f"{last} is kept: continue with --resume." if last.is_file() else "Nothing had been saved yet."


def first_non_finite_module(model: nn.Module, mixture: Tensor) -> str:
    """The name of the innermost module whose output is the first not to be finite.

    Args:
        model: The network, run once more without gradients.
        mixture: ``[B, T]``.

    Returns:
        Its dotted name; ``"parameters: NAME"`` for a weight that is not finite itself, ``"the mixture"`` for
        the input, ``"the loss or its gradient"`` if every module's output is finite.
    """
    if not mixture.isfinite().all():
        return "the mixture"
    for name, parameter in model.named_parameters():
        if not parameter.isfinite().all():
            return f"parameters: {name}"
    found: list[str] = []

    def watch(name: str) -> RemovableHandle:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if not found and not all(bool(t.isfinite().all()) for t in _tensors(output)):
                found.append(name)

        return modules[name].register_forward_hook(hook)

    modules = dict(model.named_modules())
    handles = [watch(name) for name in modules]
    try:
        with torch.no_grad():
            model(mixture)
    finally:
        for handle in handles:
            handle.remove()
    return (found[0] or type(model).__name__) if found else "the loss or its gradient"


def _tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, (list, tuple)):
        for part in output:
            yield from _tensors(part)
