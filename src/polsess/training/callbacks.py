"""Destinations of a run's numbers: ``metrics.csv``, TensorBoard, Weights & Biases, a caller's function."""

from __future__ import annotations

import csv
import io
import math
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger

from polsess.config import TrainingConfig
from polsess.dependencies import require
from polsess.files import write_text
from polsess.pace import Pace, in_words
from polsess.schema import ConfigError
from polsess.training.distributed import is_main_process
from polsess.training.module import TrainingModule

Row = dict[str, str]
"""One epoch: text by column."""
_RUN_ID = "wandb.id"


class EpochTable(lightning.Callback):
    """Keeps ``metrics.csv``: one row per epoch, those of earlier starts of the run included.

    The rows are also in every checkpoint, so that a resumed run does not depend on the file.

    Args:
        path: The file; it is replaced atomically after every epoch.
        rows: Those of the epochs before.
    """

    def __init__(self, path: Path, rows: Sequence[Row] = ()) -> None:
        self.path = path
        self.rows = list(rows)
        self.started = time.monotonic()

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Append the epoch's means."""
        del pl_module
        metrics = trainer.callback_metrics  # averages over processes: all of them must ask
        values = {
            name.removesuffix("_epoch"): f"{float(value):.4f}"
            for name, value in sorted(metrics.items())
            if not name.endswith("_step") and name != "learning_rate"  # too small for four decimals
        }
        row = {
            "epoch": str(trainer.current_epoch + 1),
            "step": str(trainer.global_step),
            "minutes_since_start": f"{(time.monotonic() - self.started) / 60:.2f}",
            "learning_rate": f"{trainer.optimizers[0].param_groups[0]['lr']:.3g}",
            **values,
        }
        self.rows.append(row)
        if trainer.is_global_zero:
            write_text(self.path, _as_csv(self.rows))

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the rows."""
        del trainer, pl_module
        checkpoint["polsess_epochs"] = self.rows


def restore_table(path: Path, content: Mapping[str, Any]) -> tuple[list[Row], list[str]]:
    """Take the rows of a run's epochs from its checkpoint, and mend ``metrics.csv`` where it has others.

    Args:
        path: The file.
        content: The content of the checkpoint. Those of the first release hold no rows; then the file counts.

    Returns:
        The rows, and remarks for the user.

    Raises:
        ConfigError: If the checkpoint holds no rows and the file is damaged.
    """
    before = int(content["polsess_progress"]["epoch"])
    try:
        found = _read_table(path)
    except ValueError as error:
        if "polsess_epochs" not in content:
            raise ConfigError(f"{path}: {error}; move it away to go on without it.") from None
        found = []
    rows: list[Row] = content.get("polsess_epochs", found[:before])
    if found[: len(rows)] == rows:
        return rows, []
    if is_main_process():
        write_text(path, _as_csv(rows))
    return rows, [f"{path} was not as the run had left it; its {len(rows)} epochs are restored."]


def _read_table(path: Path) -> list[Row]:
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = [{name: text for name, text in row.items() if text} for row in csv.DictReader(file)]
    numbers = [row.get("epoch") for row in rows]
    for first in (1, 0):  # the first release counted from 0
        if numbers == [str(number) for number in range(first, first + len(rows))]:
            return [{**row, "epoch": str(number)} for number, row in enumerate(rows, start=1)]
    raise ValueError("its rows are not those of consecutive epochs")


class EpochLines(lightning.Callback):
    """Prints a line per epoch and a few within long ones, for logs without a terminal.

    Args:
        say: Receives the line.
        table: The rows of the epochs.
    """

    def __init__(self, say: Callable[[str], None], table: EpochTable) -> None:
        self.say = say
        self.table = table
        self.pace = Pace()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *batch: Any
    ) -> None:
        """Say how far the epoch is, if it is time."""
        del batch
        assert isinstance(pl_module, TrainingModule)
        elapsed, sums = time.monotonic() - self.table.started, pl_module.sums
        if not trainer.is_global_zero or not sums.examples or not self.pace.is_due(elapsed):
            return
        batches = trainer.fit_loop.epoch_loop.batch_progress.current.ready
        self.say(
            f"Epoch {trainer.current_epoch + 1} of {trainer.max_epochs}: batch {batches} of "
            f"{trainer.num_training_batches}, loss {sums.loss / sums.examples:.2f}, {in_words(elapsed)}"
        )

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        assert isinstance(pl_module, TrainingModule)
        if not trainer.is_global_zero:
            return
        row, monitor = self.table.rows[-1], pl_module.monitor
        scores = {n: float(each[monitor.column]) for n, each in enumerate(self.table.rows, start=1)}
        finite = [number for number, score in scores.items() if math.isfinite(score)]
        best = max(finite, key=lambda number: monitor.gain(scores[number]), default=None)
        self.say(
            f"Epoch {len(scores)} of {trainer.max_epochs}: loss {float(row['train_loss']):.2f}, validation "
            f"{monitor.show(scores[len(scores)])}, "
            + (f"best {monitor.show(scores[best])} (epoch {best}), " if best else "no best yet, ")
            + f"rate {row['learning_rate']}, {row['minutes_since_start']} min"
        )


class EpochBar(RichProgressBar):
    """Lightning's bar, with epochs counted from 1 and without the number of its log folder."""

    def _get_train_description(self, current_epoch: int) -> str:
        text = f"Epoch {current_epoch + 1}/{self.trainer.max_epochs}"
        return text.ljust(len(self.validation_description))  # so that the bar keeps its place

    def get_metrics(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        metrics = super().get_metrics(trainer, pl_module)
        return {name: value for name, value in metrics.items() if name != "v_num"}


class AfterEpoch(lightning.Callback):
    """Passes the score of every epoch on.

    Args:
        receive: Called with the epoch, counted from 0, and its validation score; may raise to end the run.
    """

    def __init__(self, receive: Callable[[int, float], None]) -> None:
        self.receive = receive

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Pass the score on."""
        assert isinstance(pl_module, TrainingModule)
        self.receive(trainer.current_epoch, float(trainer.callback_metrics[pl_module.monitor.column]))


def _as_csv(rows: list[dict[str, str]]) -> str:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def create_loggers(config: TrainingConfig, run_folder: Path, run_config: dict[str, Any]) -> list[Logger]:
    """The loggers of a run.

    Args:
        config: Names the trackers.
        run_folder: Receives their files.
        run_config: Plain data of the whole configuration.

    Raises:
        ModuleNotFoundError: If a tracker that is asked for is not installed; the message holds the command.
    """
    loggers: list[Logger] = [TensorBoardLogger(run_folder, name="", version="tensorboard")]
    if "wandb" in config.trackers:
        loggers.append(_create_wandb_logger(run_folder, run_config))
    return loggers


@contextmanager
def closed_after(loggers: Sequence[Logger]) -> Iterator[None]:
    """End the run in Weights & Biases when the block is left, however it is left."""
    try:
        yield
    finally:
        for logger in loggers:
            if isinstance(logger, WandbLogger):
                logger.experiment.finish()


def _create_wandb_logger(run_folder: Path, run_config: dict[str, Any]) -> Logger:
    """A logger whose run goes on when ours is resumed; wandb reads its own variables (WANDB_MODE, ...)."""
    require("wandb", "training.trackers: [wandb]")
    logger = WandbLogger(
        name=run_folder.resolve().name,
        save_dir=run_folder,
        id=_run_id(run_folder / _RUN_ID),
        project=os.environ.get("WANDB_PROJECT", "polsess"),
        resume="allow",
    )
    logger.log_hyperparams(run_config)
    return logger


def _run_id(path: Path) -> str:
    """The identifier of the run in wandb, made once and kept in the run's folder."""
    if path.is_file():
        return path.read_text(encoding="utf-8").strip()
    identifier = uuid.uuid4().hex[:12]
    if is_main_process():
        write_text(path, identifier + "\n")
    return identifier
