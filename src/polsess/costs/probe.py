"""The process in which one run is measured: a request as JSON on stdin, the measurement on stdout."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from polsess.allocator import tune_allocator
from polsess.costs.passes import add_gradients, infer, samples_of
from polsess.models import create_model

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def measure(request: Mapping[str, Any]) -> dict[str, float | int | None]:
    """Do what ``measure_run`` asks for, in this process."""
    device = torch.device(request["device"])
    torch.ones(64, 64, device=device).mm(torch.ones(64, 64, device=device))  # libraries load before it counts
    base = _resident("VmRSS")
    model = create_model(request["config"]).to(device)
    run = _prepared(model, request)
    _forget_peak(device)
    best = min((_timed(run, device) for _ in range(2)), key=lambda times: times[0])
    peak = _peak(device)
    if peak is not None and device.type == "cpu":
        peak -= base or 0
    return {"seconds": best[0], "cpu_seconds": best[1], "peak": peak}


def _prepared(model: Any, request: Mapping[str, Any]) -> Callable[[], object]:
    shape = (request["batch_size"], samples_of(model, request["seconds"]))
    mixture = torch.randn(shape, device=request["device"])
    if not request["training"]:
        return lambda: infer(model, mixture)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)

    def step() -> None:
        add_gradients(model, mixture)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def _timed(run: Callable[[], object], device: torch.device) -> tuple[float, float]:
    wall, used = time.perf_counter(), time.process_time()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - wall, time.process_time() - used


def _forget_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif _CLEAR.exists():
        _CLEAR.write_text("5")  # proc(5): the peak of resident memory starts anew


def _peak(device: torch.device) -> int | None:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _resident("VmHWM")


def _resident(kind: str) -> int | None:
    found = re.search(rf"^{kind}:\s+(\d+) kB", _STATUS.read_text(), re.M) if _STATUS.exists() else None
    return int(found[1]) * 1024 if found else None


if __name__ == "__main__":
    tune_allocator()
    asked = json.load(sys.stdin)
    if asked["num_threads"] is not None:
        torch.set_num_threads(asked["num_threads"])
    json.dump(measure(asked), sys.stdout)
