"""When and how a run's checkpoints are written, and where a resumed run starts.

Lightning writes its checkpoints before the epoch's bookkeeping is complete; ours are written after it, whole
or not at all, and record how many batches of the epoch are done.
"""

from __future__ import annotations

import math
import shutil
import signal
import struct
import time
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint

from polsess.files import atomic_path
from polsess.training.distributed import largest
from polsess.training.failures import what_is_kept
from polsess.training.module import TrainingModule
from polsess.training.signals import Preempted, StopSignals

BEST, LAST = "best.ckpt", "last.ckpt"

_DAMAGE = (
    *(zipfile.BadZipFile, EOFError, struct.error, zlib.error, ValueError, OverflowError),
    *(NotImplementedError, RuntimeError, KeyError),
)
"""The errors of Python's reader of archives for bytes that it does not expect."""


class DamagedCheckpointError(ValueError):
    """A checkpoint is not what was written; the message names the file and what is still whole."""


class TimeIsUp(Exception):
    """The run has used its ``max_minutes``; its last checkpoint holds everything."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """Checkpoints that appear whole or not at all, and are read without executing anything."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint.

        Raises:
            OSError: If it cannot be written, e.g. because the disk is full; the old one is as it was.
        """
        del storage_options
        try:
            with atomic_path(Path(path)) as temporary:
                torch.save(checkpoint, temporary)
        except OSError as error:
            raise OSError(
                f"{path}: the checkpoint could not be written ({error.strerror}). "
                f"{what_is_kept(Path(path).with_name(LAST))}"
            ) from error

    def load_checkpoint(
        self, path: Any, map_location: Any = "cpu", weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint."""
        del weights_only
        content: dict[str, Any] = torch.load(path, map_location=map_location, weights_only=True)
        return content


def read_run_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint of a run, after comparing all its content with the checksums in it.

    Raises:
        DamagedCheckpointError: If it is damaged, or its weights are not finite.
        OSError: If it cannot be read.
    """
    try:
        return _read_whole(path)
    except DamagedCheckpointError as error:
        raise DamagedCheckpointError(f"{error} {_what_is_whole(path)}") from error.__cause__


def _read_whole(path: Path) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # the CRC-32 of every record, which torch writes but does not check
    except _DAMAGE as error:
        raise DamagedCheckpointError(f"{path}: damaged, or not a checkpoint ({error}).") from error
    if damaged is not None:
        raise DamagedCheckpointError(f"{path}: damaged, its part {damaged!r} does not match its checksum.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # whatever a foreign archive holds
        reason = str(error).split("\n", maxsplit=1)[0]
        raise DamagedCheckpointError(f"{path}: not a checkpoint of polsess train ({reason}).") from error
    if not isinstance(content, dict) or "polsess_progress" not in content:
        raise DamagedCheckpointError(f"{path}: not a checkpoint of polsess train.")
    for name, value in content["state_dict"].items():
        if not value.isfinite().all():
            raise DamagedCheckpointError(f"{path}: the weights {name.removeprefix('model.')} are not finite.")
    return content


def _what_is_whole(damaged: Path) -> str:
    """Describe the other checkpoints of the run that are usable."""
    best = damaged.with_name(BEST)
    if damaged.name != BEST and best.is_file():
        try:
            progress = Progress.of(_read_whole(best))
        except DamagedCheckpointError:
            return f"{best.name} beside it is damaged, too: begin a new run."
        return (
            f"{best.name} beside it is whole (epochs: {progress.epoch}): remove {damaged.name}, and --resume "
            "continues from there."
        )
    return "No other checkpoint of the run is left: begin a new run."


@dataclass(frozen=True)
class Progress:
    """Position of a run."""

    epoch: int = 0
    """The epoch that comes next or is under way."""
    batches: int = 0
    """Batches of it whose gradients have become steps."""
    steps: int = 0
    """Steps of the whole run."""

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Progress:
        """Take it from the content of a checkpoint."""
        return cls(**content["polsess_progress"])

    def set_loops(self, trainer: lightning.Trainer) -> None:
        """Put Lightning's counters where the run was; its own state knows no batches but whole epochs."""
        fit, epoch = trainer.fit_loop, trainer.fit_loop.epoch_loop
        _set_counters(fit.epoch_progress.current, self.epoch)
        _set_counters(epoch.batch_progress.current, self.batches)
        _set_counters(epoch.batch_progress.total, self.batches)
        epoch.manual_optimization.optim_step_progress.total.completed = self.steps
        epoch._batches_that_stepped = self.steps
        epoch.restarting = self.batches > 0


def _set_counters(tracker: Any, value: int) -> None:
    tracker.ready = tracker.started = tracker.processed = tracker.completed = value


def best_score_in(folder: Path) -> float:
    """The gain of the validation of the weights in ``best.ckpt``; minus infinity without a whole one."""
    path = folder / BEST
    if not path.is_file():
        return -math.inf
    try:
        content = _read_whole(path)
    except DamagedCheckpointError:
        return -math.inf
    return best_score_of(content)


def best_score_of(content: Mapping[str, Any]) -> float:
    """The gain of the best validation up to a checkpoint."""
    return float(content["callbacks"][Checkpoints.__qualname__]["best_score"])


class Checkpoints(Checkpoint):
    """Writes ``last.ckpt`` after every epoch, every few minutes and on a signal; ``best.ckpt`` on a new best.

    Args:
        folder: Where they go.
        every_minutes: Time between two within an epoch.
        max_minutes: After these the run is saved at the next step boundary and ends; None never ends it.
        signals: Asked at every step boundary.
        patience: Validations without a new best before the run ends; None never ends it.
        progress: Where the run starts.
        kept_score: Gain of the best weights that a resumed run has; of a monitor, more of it is better.
    """

    def __init__(
        self,
        folder: Path,
        every_minutes: float,
        max_minutes: float | None,
        signals: StopSignals,
        patience: int | None,
        progress: Progress,
        kept_score: float = -math.inf,
    ) -> None:
        self.folder = folder
        self.every_minutes = every_minutes
        self.max_minutes = math.inf if max_minutes is None else max_minutes
        self.signals = signals
        self.patience = patience
        self.progress = progress
        self.kept_score = kept_score
        self.best_score = -math.inf
        self.bad_validations = 0
        self._saved = self._started = time.monotonic()
        self._is_best = False

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Continue where the run was; Lightning has taken the signals over by now: take them back."""
        del pl_module
        self.progress.set_loops(trainer)
        self.signals.install()
        self._started = time.monotonic()
        self._end_if_hopeless(trainer)  # it had ended already

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *args: Any
    ) -> None:
        """Between steps: save if it is time or a signal came, end the run if its time is up."""
        del args
        assert isinstance(pl_module, TrainingModule)
        done = _batches_done(trainer)
        if done % pl_module.config.accumulate_batches or done == trainer.num_training_batches:
            return  # a group of batches is under way, or the epoch's own save follows
        due = time.monotonic() - self._saved >= 60 * self.every_minutes
        number, save, over = largest(trainer, (self._received(), int(due), self._is_over()))
        if number or save or over:
            self._save(trainer, Progress(trainer.current_epoch, done, trainer.global_step))
        self._end_if_asked(number, over)

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Note the score; one that is not finite is never the best."""
        assert isinstance(pl_module, TrainingModule)
        if trainer.sanity_checking:
            return
        monitor = pl_module.monitor
        score = monitor.gain(float(trainer.callback_metrics[monitor.column]))
        self._is_best = math.isfinite(score) and score > self.best_score
        if self._is_best:
            self.best_score = score
        self.bad_validations = 0 if self._is_best else self.bad_validations + 1
        self._end_if_hopeless(trainer)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Save the epoch; Lightning calls us after all others."""
        del pl_module
        self._save(
            trainer, Progress(trainer.current_epoch + 1, 0, trainer.global_step), is_best=self._is_best
        )
        finished = trainer.should_stop or self.progress.epoch >= (trainer.max_epochs or math.inf)
        number, over = largest(trainer, (self._received(), self._is_over()))
        self._end_if_asked(number, over and not finished)

    def state_dict(self) -> dict[str, Any]:
        """The best score and how long ago it was."""
        return {"best_score": self.best_score, "bad_validations": self.bad_validations}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue where a run was; a best score counts only if its weights are there."""
        self.best_score = min(state_dict["best_score"], self.kept_score)
        self.bad_validations = state_dict["bad_validations"]

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add where the run is, in place of Lightning's counters."""
        del trainer, pl_module
        checkpoint["polsess_progress"] = asdict(self.progress)
        del checkpoint["loops"]

    def _received(self) -> int:
        return int(self.signals.received or 0)

    def _is_over(self) -> int:
        return int(time.monotonic() - self._started >= 60 * self.max_minutes)

    def _end_if_hopeless(self, trainer: lightning.Trainer) -> None:
        if self.patience is not None and self.bad_validations >= self.patience:
            trainer.should_stop = True

    def _save(self, trainer: lightning.Trainer, progress: Progress, *, is_best: bool = False) -> None:
        """The best first: after a kill between the two, the epoch is done again and finds the same best."""
        self.progress = progress
        best, last = self.folder / BEST, self.folder / LAST
        trainer.save_checkpoint(best if is_best else last)
        if is_best and trainer.is_global_zero:
            with atomic_path(last) as temporary:
                shutil.copyfile(best, temporary)
        self._saved = time.monotonic()

    def _end_if_asked(self, number: int, over: int) -> None:
        if number:
            raise Preempted(signal.Signals(number), self.folder / LAST)
        if over:
            raise TimeIsUp


def _batches_done(trainer: lightning.Trainer) -> int:
    return int(trainer.fit_loop.epoch_loop.batch_progress.current.ready)
