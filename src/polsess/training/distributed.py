"""One run in several processes: how they are started, and what they decide together."""

from __future__ import annotations

import os
from typing import Any

import lightning
import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.strategies import DDPStrategy, Strategy
from lightning.pytorch.utilities import rank_zero_only

from polsess.config import TrainingConfig
from polsess.schema import ConfigError


def create_strategy(config: TrainingConfig) -> str | Strategy:
    """How the processes of a run share the work, for Lightning's trainer.

    Args:
        config: Names the strategy and the number of processes.

    Raises:
        ConfigError: If torchrun or SLURM started another number of processes than configured: each of them
            would train a model of its own.
    """
    started, launcher = _launched_processes()
    if started not in (1, config.num_processes):
        raise ConfigError(
            f"training.devices x training.num_nodes is {config.num_processes}, but {launcher} started "
            f"{started} processes: set training.devices to those of one machine, training.num_nodes to the "
            "machines."
        )
    return DDPStrategy() if config.num_processes > 1 or config.strategy == "ddp" else "auto"


def largest(trainer: lightning.Trainer, values: tuple[int, ...]) -> tuple[int, ...]:
    """The largest of every value over all processes; every process gets the same."""
    if trainer.world_size == 1:
        return values
    tensor = torch.tensor(values, device=trainer.strategy.root_device)
    return tuple(trainer.strategy.reduce(tensor, reduce_op="max").tolist())


def is_main_process() -> bool:
    """Whether this process speaks and writes for all of a run."""
    if (
        int(os.environ.get("NODE_RANK") or 0) > 0
    ):  # before the trainer is made, Lightning looks at ranks alone
        return False
    return int(getattr(rank_zero_only, "rank", 0)) == 0


def gather(value: Any) -> list[Any]:
    """What every process holds, in the order of their ranks."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [value]
    gathered: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(gathered, value)
    return gathered


def _launched_processes() -> tuple[int, str]:
    """Processes that somebody else started for this run, and who."""
    if torch.distributed.is_available() and torch.distributed.is_torchelastic_launched():
        return int(os.environ.get("WORLD_SIZE", "1")), "torchrun"
    if SLURMEnvironment.detect():
        return int(os.environ.get("SLURM_NTASKS", "1")), "SLURM"
    return 1, ""
