"""Lightning's trainer from our configuration: loggers, checkpoints, precision."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import WeightAveraging
from torch.optim.swa_utils import get_ema_multi_avg_fn

from polsess.config import TrainingConfig
from polsess.devices import pick_device
from polsess.models import Network
from polsess.models.layers.kernels import multiplies_in_tiles
from polsess.precision import multiplies_natively
from polsess.schema import ConfigError
from polsess.training.callbacks import AfterEpoch, EpochBar, EpochLines, EpochTable, Row, create_loggers
from polsess.training.checkpointing import AtomicCheckpointIO, Checkpoints, Progress
from polsess.training.distributed import SameEverywhere, create_strategy
from polsess.training.signals import StopSignals

CHECKPOINTS = "checkpoints"
"""The folder of a run that holds ``best.ckpt`` and ``last.ckpt``."""
METRICS = "metrics.csv"


@dataclass(frozen=True)
class Start:
    """The state from which a run continues; empty for a new run."""

    progress: Progress = field(default_factory=Progress)
    rows: Sequence[Row] = ()
    """Rows of ``metrics.csv``."""
    best_score: float = -math.inf
    """Gain of the weights in ``best.ckpt``, as ``Monitor`` defines it."""
    changes: Mapping[str, list[Any]] = field(default_factory=dict)
    """Settings that differ from those of the last start: old and new value by key."""
    remarks: Sequence[str] = ()
    """Remarks for the user."""


def create_trainer(
    config: TrainingConfig,
    model: Network,
    run_folder: Path,
    signals: StopSignals,
    start: Start,
    *,
    run_config: dict[str, Any],
    shared: Mapping[str, Any],
    progress_bar: bool = True,
    say_epoch: Callable[[str], None] | None = None,
    after_epoch: Callable[[int, float], None] | None = None,
) -> lightning.Trainer:
    """The engine of a run.

    Args:
        config: Epochs, patience, devices.
        model: The network; decides the precision.
        run_folder: Where logs and checkpoints go.
        signals: Asked at every step boundary whether to stop.
        start: Where the run starts.
        run_config: Plain data of the whole configuration, for the trackers.
        shared: Facts that all processes must have in common.
        progress_bar: Whether to draw a bar.
        say_epoch: Receives a line per epoch.
        after_epoch: Receives every epoch and its validation score.
    """
    table = EpochTable(run_folder / METRICS, start.rows)
    chosen: list[lightning.Callback] = [
        SameEverywhere(shared),
        table,
        Checkpoints(
            run_folder / CHECKPOINTS,
            config.checkpoint_minutes,
            config.max_minutes,
            signals,
            config.early_stopping_patience,
            start.progress,
            start.best_score,
        ),
    ]
    if config.ema_decay is not None:
        # By interpolation: what does not change (frozen parts) is equal to the bit, as a weighted sum is not.
        average = get_ema_multi_avg_fn(config.ema_decay)
        chosen.append(WeightAveraging(device=None, multi_avg_fn=average))
    if after_epoch is not None:
        chosen.append(AfterEpoch(after_epoch))
    if progress_bar:
        chosen.append(EpochBar(leave=True))
    if say_epoch is not None:
        chosen.append(EpochLines(say_epoch, table))
    try:
        return _create(config, model, run_folder, chosen, run_config, progress_bar=progress_bar)
    except MisconfigurationException as error:  # e.g. more devices than the machine has
        text = " ".join(str(error).split())
        raise ConfigError(f"training.devices, training.device: {text}") from None


def _create(
    config: TrainingConfig,
    model: Network,
    run_folder: Path,
    callbacks: list[lightning.Callback],
    run_config: dict[str, Any],
    *,
    progress_bar: bool,
) -> lightning.Trainer:
    return lightning.Trainer(
        accelerator={"cuda": "gpu"}.get(config.device, config.device),
        devices=config.devices,
        num_nodes=config.num_nodes,
        strategy=create_strategy(config),
        max_epochs=config.max_epochs,
        precision="bf16-mixed" if reduces_precision(config, model) else "32-true",
        logger=create_loggers(config, run_folder, run_config),
        callbacks=callbacks,
        plugins=[AtomicCheckpointIO()],
        log_every_n_steps=config.log_every_steps,
        enable_progress_bar=progress_bar,
        enable_model_summary=False,
        use_distributed_sampler=False,  # ours deals out the keys itself
        num_sanity_val_steps=0,
    )


def reduces_precision(config: TrainingConfig, model: Network) -> bool:
    """Whether the network is computed in bfloat16."""
    if config.precision == "float32" or model.amp_dtype is None:
        return False
    device = pick_device(config.device)
    if config.precision == "auto" and device.type == "cpu":
        if model.reduced_training_on_cpu == "faster in tiles":
            return multiplies_in_tiles("recurrent")
        return model.reduced_training_on_cpu == "faster" and multiplies_natively(device, model.amp_dtype)
    return config.precision == "bfloat16" or device.type == "cuda"
