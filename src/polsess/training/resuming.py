"""What may change between the starts of a run."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from polsess.config import Config, flatten
from polsess.schema import ConfigError

_FIXED = (
    "task",
    "seed",
    "model.*",
    "data.*",
    "training.freeze",
    "training.optimizer.name",
    "training.accumulate_batches",
    "training.devices",
    "training.num_nodes",
)
"""What the state of a run rests on."""
_FREE = ("data.num_workers", "training.init", "training.reset_head")
"""What a resumed run does not ask for, or what changes nothing in it."""


def changes_since(checkpoint: Path, config: Config) -> dict[str, list[Any]]:
    """What differs from the configuration that a run was stopped with.

    Args:
        checkpoint: The run's last.
        config: The configuration to resume with.

    Returns:
        Old and new value by key. Places of files do not count: the data's fingerprint is compared.

    Raises:
        ConfigError: If a change does not fit the state of the run.
    """
    content = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
    before = dict(flatten(content["polsess_config"]))
    now = dict(flatten(json.loads(config.model_dump_json())))
    places = {key for key, value in flatten(config.model_dump()) if isinstance(value, Path)}
    keys = [*before, *(key for key in now if key not in before and _opens_section(key, before))]
    changed = {
        key: [before.get(key), now.get(key)]
        for key in keys  # those of a newer release have their defaults
        if now.get(key) != before.get(key) and key not in places and not _matches(key, _FREE)
    }
    fixed = [key for key in changed if _matches(key, _FIXED)]
    if _toggled(changed.get("training.ema_decay")):
        fixed.append("training.ema_decay")
    if fixed:
        each = ", ".join(f"{key} was {changed[key][0]!r}, is {changed[key][1]!r}" for key in fixed)
        raise ConfigError(
            f"{each}: a run cannot be resumed with another. Set it back, or begin a new run from its weights "
            f"with --init {checkpoint.parent.parent}."
        )
    return changed


def _matches(key: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(key, pattern) for pattern in patterns)


def _opens_section(key: str, before: Mapping[str, Any]) -> bool:
    """Whether a section above the key was null."""
    parts = key.split(".")
    return any(".".join(parts[:depth]) in before for depth in range(1, len(parts)))


def _toggled(change: list[Any] | None) -> bool:
    """Whether an option was switched on or off."""
    return change is not None and (change[0] is None) != (change[1] is None)
