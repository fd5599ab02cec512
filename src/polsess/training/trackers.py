"""Where a run's numbers go: TensorBoard always, Weights & Biases when asked for."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger

from polsess.config import TrainingConfig
from polsess.dependencies import require
from polsess.files import write_text
from polsess.training.distributed import is_main_process

_RUN_ID = "wandb.id"


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
    """Tell Weights & Biases that the run is over when the block is left, however it is left."""
    try:
        yield
    finally:
        for logger in loggers:
            if isinstance(logger, WandbLogger):
                logger.experiment.finish()


def _create_wandb_logger(run_folder: Path, run_config: dict[str, Any]) -> Logger:
    """A logger whose run goes on when ours is resumed; wandb's own variables (WANDB_MODE, ...) are heeded."""
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
    """The name under which wandb knows the run: made once, kept beside it."""
    if path.is_file():
        return path.read_text(encoding="utf-8").strip()
    identifier = uuid.uuid4().hex[:12]
    if is_main_process():
        write_text(path, identifier + "\n")
    return identifier
