"""Which weights, and on which device."""

from __future__ import annotations

from pathlib import Path

import torch

import polsess
from polsess.checkpoints import CheckpointError, load_model
from polsess.models import SeparationModel

DEFAULT_MODEL = "default"
"""The name of the small model that comes with the package."""


def load_pretrained(model: str | Path = DEFAULT_MODEL) -> SeparationModel:
    """Load a model by name.

    Args:
        model: What ``polsess.checkpoints.load_model`` takes, or ``"default"``.

    Raises:
        CheckpointError: If it cannot be loaded.
    """
    if str(model) != DEFAULT_MODEL:
        return load_model(model)
    folder = Path(polsess.__file__).parent / "assets" / "default_model"
    if not folder.is_dir():
        raise CheckpointError("default: this installation holds no default model; name a model's folder.")
    return load_model(folder)


def pick_device(name: str = "auto") -> torch.device:
    """The device of a name; ``"auto"`` is CUDA before Apple's MPS before the CPU.

    Raises:
        ValueError: If there is no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device: {name!r} cannot be used ({reason}); try 'auto' or 'cpu'.") from None
    if device.type not in ("cpu", "cuda", "mps"):
        raise ValueError(f"device: expected auto, cpu, cuda or mps, got {name!r}.")
    return device
