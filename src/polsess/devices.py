"""Choice of the device that a model runs on."""

from __future__ import annotations

import torch


def pick_device(name: str = "auto") -> torch.device:
    """The device of a name; ``"auto"`` is CUDA before Apple's MPS before the CPU.

    Raises:
        ValueError: If there is no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if name.partition(":")[0] not in ("cpu", "cuda", "mps"):
        raise ValueError(f"device: expected auto, cpu, cuda or mps, got {name!r}.")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device: {name!r} cannot be used ({reason}); try 'auto' or 'cpu'.") from None
    return device
