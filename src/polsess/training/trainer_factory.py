"""Lightning's trainer from our configuration: loggers, checkpoints, early stopping, precision."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch import callbacks as lightning_callbacks
from lightning.pytorch.loggers import TensorBoardLogger

from polsess.models import SeparationModel
from polsess.training.callbacks import EpochTable
from polsess.training.module import MONITOR
from polsess.training.settings import TrainingConfig

CHECKPOINTS = "checkpoints"
"""The folder of a run that holds ``best.ckpt`` and ``last.ckpt``."""


def create_trainer(
    config: TrainingConfig, model: SeparationModel, run_folder: Path, *, progress: bool = True
) -> lightning.Trainer:
    """The engine of a run.

    Args:
        config: Epochs, clipping, patience, devices.
        model: Asked for the precision that it trains well in.
        run_folder: Where logs and checkpoints go.
        progress: Whether to draw a bar.
    """
    return lightning.Trainer(
        accelerator={"cuda": "gpu"}.get(config.device, config.device),
        devices=config.devices,
        num_nodes=config.num_nodes,
        max_epochs=config.max_epochs,
        max_time=timedelta(minutes=config.max_minutes) if config.max_minutes else None,
        precision=_precision(config, model),
        gradient_clip_val=config.gradient_clip_norm,
        logger=TensorBoardLogger(run_folder, name="", version="tensorboard"),
        callbacks=_callbacks(config, run_folder, progress=progress),
        log_every_n_steps=config.log_every_steps,
        enable_progress_bar=progress,
        enable_model_summary=False,
        use_distributed_sampler=False,  # ours deals out the keys itself
        num_sanity_val_steps=0,
    )


def _callbacks(config: TrainingConfig, run_folder: Path, *, progress: bool) -> list[lightning.Callback]:
    chosen: list[lightning.Callback] = [
        lightning_callbacks.ModelCheckpoint(
            run_folder / CHECKPOINTS,
            filename="best",
            monitor=MONITOR,
            mode="max",
            save_last=True,
            enable_version_counter=False,
        ),
        lightning_callbacks.LearningRateMonitor(logging_interval="epoch"),
        EpochTable(run_folder / "metrics.csv"),
    ]
    if config.early_stopping_patience is not None:
        chosen.append(
            lightning_callbacks.EarlyStopping(MONITOR, mode="max", patience=config.early_stopping_patience)
        )
    if config.ema_decay is not None:
        chosen.append(lightning_callbacks.EMAWeightAveraging(decay=config.ema_decay))
    if progress:
        chosen.append(lightning_callbacks.RichProgressBar(leave=True))
    return chosen


def _precision(config: TrainingConfig, model: SeparationModel) -> Any:
    on_gpu = config.device == "cuda" or (config.device == "auto" and torch.cuda.is_available())
    if config.precision == "float32" or not on_gpu or model.amp_dtype is None:
        return "32-true"
    return {torch.float16: "16-mixed", torch.bfloat16: "bf16-mixed"}[model.amp_dtype]
