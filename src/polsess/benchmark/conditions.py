"""What a measurement depends on besides the model."""

from __future__ import annotations

import datetime
import os
import platform
from pathlib import Path

import torch

from polsess.benchmark.results import Conditions
from polsess.machine import installed_version, memory_gib, processor_name
from polsess.models.layers.kernels import load_kernel
from polsess.processes import num_processors


def current_conditions(device: str) -> Conditions:
    """This machine, now."""
    return Conditions(
        date=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        processor=_processor(),
        num_processors=num_processors(),
        memory_gib=memory_gib(),
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        torch=torch.__version__,
        polsess=installed_version("polsess-separation") or "from source",
        device=_device_name(device),
        kernels=load_kernel("mamba") is not None,
        load_before=load_average(),
    )


def load_average() -> float | None:
    """Over the last minute; None where the system does not tell."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def _device_name(device: str) -> str:
    kind = torch.device(device).type
    return f"{kind}: {torch.cuda.get_device_name(torch.device(device))}" if kind == "cuda" else kind


def _processor() -> str:
    """With what tells processors of one name apart."""
    table = Path("/proc/cpuinfo")
    if not table.exists():
        return processor_name()
    lines = dict(line.split(":", 1) for line in table.read_text().splitlines() if ":" in line)
    facts = {key.strip(): value.strip() for key, value in lines.items()}
    flags = facts.get("flags", "").split()
    wide = "AVX-512" if "avx512f" in flags else "AVX2" if "avx2" in flags else "no AVX2"
    numbers = f"family {facts.get('cpu family', '?')}, model {facts.get('model', '?')}"
    return f"{processor_name()} ({numbers}, {wide})"
