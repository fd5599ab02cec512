"""When and how a run's checkpoints are written, and where a resumed run starts.

Lightning writes its checkpoints before the epoch's bookkeeping is complete; ours are written after it, whole
or not at all, and know how many batches of the epoch are done.
"""

from __future__ import annotations

import math
import shutil
import signal
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint

from polsess.files import atomic_path
from polsess.training.distributed import largest
from polsess.training.module import MONITOR, SeparationModule
from polsess.training.signals import Preempted, StopSignals

BEST, LAST = "best.ckpt", "last.ckpt"


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
        except (OSError, RuntimeError) as error:  # torch's writer hides the system's error in its own
            reason = getattr(error, "strerror", None) or "writing failed; is the disk full?"
            raise OSError(
                f"{path}: the checkpoint could not be written ({reason}). The one before it is kept: make "
                "room and continue with --resume."
            ) from error

    def load_checkpoint(
        self, path: Any, map_location: Any = "cpu", weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint."""
        del weights_only
        content: dict[str, Any] = torch.load(path, map_location=map_location, weights_only=True)
        return content


@dataclass(frozen=True)
class Progress:
    """Where a run is."""

    epoch: int = 0
    """The epoch that comes next or is under way."""
    batches: int = 0
    """Batches of it whose gradients have become steps."""
    steps: int = 0
    """Steps of the whole run."""

    @classmethod
    def of(cls, checkpoint: Path) -> Progress:
        """Read it from a checkpoint of ours.

        Raises:
            ValueError: If the file is none.
        """
        content = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
        if "polsess_progress" not in content:
            raise ValueError(f"{checkpoint}: not a checkpoint of polsess train.")
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


class Checkpoints(Checkpoint):
    """Writes ``last.ckpt`` after every epoch, every few minutes and on a signal; ``best.ckpt`` on a new best.

    Args:
        folder: Where they go.
        every_minutes: Time between two within an epoch.
        max_minutes: After these the run is validated at the next step boundary and ends; None never ends it.
        signals: Asked at every step boundary.
        patience: Validations without a new best before the run ends; None never ends it.
        progress: Where the run starts.
    """

    def __init__(
        self,
        folder: Path,
        every_minutes: float,
        max_minutes: float | None,
        signals: StopSignals,
        patience: int | None,
        progress: Progress,
    ) -> None:
        self.folder = folder
        self.every_minutes = every_minutes
        self.max_minutes = math.inf if max_minutes is None else max_minutes
        self.signals = signals
        self.patience = patience
        self.progress = progress
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
        if trainer.is_global_zero:
            self._sweep()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *args: Any
    ) -> None:
        """Between steps: save if it is time or a signal came, end the run if its time is up."""
        del args
        assert isinstance(pl_module, SeparationModule)
        done = _batches_done(trainer)
        if done % pl_module.config.accumulate_batches or done == trainer.num_training_batches:
            return  # a group of batches is under way, or the epoch's own save follows
        due = time.monotonic() - self._saved >= 60 * self.every_minutes
        number, save, over = largest(trainer, (self._received(), int(due), self._is_over()))
        if number or save:
            self._save(trainer, Progress(trainer.current_epoch, done, trainer.global_step))
        self._end_if_asked(number)
        trainer.should_stop = trainer.should_stop or bool(over)

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Take note of the score."""
        del pl_module
        if trainer.sanity_checking:
            return
        score = float(trainer.callback_metrics[MONITOR])
        self._is_best = score > self.best_score
        self.best_score = max(score, self.best_score)
        self.bad_validations = 0 if self._is_best else self.bad_validations + 1
        self._end_if_hopeless(trainer)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Save the epoch, or how much of it there was time for; Lightning calls us after all others."""
        del pl_module
        epoch, done = trainer.current_epoch, _batches_done(trainer)
        whole = done == trainer.num_training_batches
        self._save(trainer, Progress(epoch + whole, 0 if whole else done, trainer.global_step))
        if self._is_best and trainer.is_global_zero:
            with atomic_path(self.folder / BEST) as temporary:
                shutil.copyfile(self.folder / LAST, temporary)
        number, over = largest(trainer, (self._received(), self._is_over()))
        self._end_if_asked(number)
        trainer.should_stop = trainer.should_stop or bool(over)

    def state_dict(self) -> dict[str, Any]:
        """The best score and how long ago it was."""
        return {"best_score": self.best_score, "bad_validations": self.bad_validations}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue where a run was."""
        self.best_score = state_dict["best_score"]
        self.bad_validations = state_dict["bad_validations"]

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add where the run is, in place of Lightning's counters."""
        del trainer, pl_module
        checkpoint["polsess_progress"] = asdict(self.progress)
        del checkpoint["loops"]

    def _sweep(self) -> None:
        """Remove the halves of checkpoints that a killed process left."""
        for name in (BEST, LAST):
            for half in self.folder.glob(f".{Path(name).stem}-*.ckpt"):
                half.unlink(missing_ok=True)

    def _received(self) -> int:
        return int(self.signals.received or 0)

    def _is_over(self) -> int:
        return int(time.monotonic() - self._started >= 60 * self.max_minutes)

    def _end_if_hopeless(self, trainer: lightning.Trainer) -> None:
        if self.patience is not None and self.bad_validations >= self.patience:
            trainer.should_stop = True

    def _save(self, trainer: lightning.Trainer, progress: Progress) -> None:
        self.progress = progress
        trainer.save_checkpoint(self.folder / LAST)
        self._saved = time.monotonic()

    def _end_if_asked(self, number: int) -> None:
        if number:
            raise Preempted(signal.Signals(number), self.folder / LAST)


def _batches_done(trainer: lightning.Trainer) -> int:
    return int(trainer.fit_loop.epoch_loop.batch_progress.current.ready)
