"""One run in several processes: how they are started, and what they decide together."""

from __future__ import annotations

import os
from collections.abc import Mapping
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
    # Before its trainer is made, Lightning knows the rank within the machine alone.
    if int(os.environ.get("NODE_RANK") or 0) > 0:
        return False
    return int(getattr(rank_zero_only, "rank", 0)) == 0


class SameEverywhere(lightning.Callback):
    """Ends a run before its first step if its processes do not have the same data and settings.

    Args:
        facts: Plain data by name, e.g. counts and fingerprints of the splits.
    """

    def __init__(self, facts: Mapping[str, Any]) -> None:
        self.facts = dict(facts)

    def setup(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        del trainer, pl_module, stage
        first, *others = gather(self.facts)
        for rank, facts in enumerate(others, start=1):
            for name, value in first.items():
                if facts.get(name) != value:
                    raise ConfigError(
                        f"{name}: process 0 has {value}, process {rank} has {facts.get(name)}; give all "
                        "processes of a run the same data and the same configuration."
                    )


def loss_of_process(error: RuntimeError) -> str | None:
    """What says that another process of the run cannot be reached any more; None if nothing does."""
    lost = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "Socket closed")
    found = next((words for words in lost if words in str(error)), None)
    if found is None and isinstance(error, torch.distributed.DistError):
        return str(error).split("\n")[0].strip().rstrip(".")
    return found


def gather(value: Any) -> list[Any]:
    """Gather a value from all processes, in the order of their ranks."""
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
