"""One network in one process: JSON requests on stdin, JSON answers on stdout, one per line.

Needs torch and the standard library only; both sides of a comparison are timed by these very lines.

Shapes: B batch, T samples.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

Answer = dict[str, Any]
Commands = Mapping[str, Callable[[Answer], Answer]]

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def serve(commands: Commands) -> None:
    """Answer requests until stdin ends; what a network prints goes to stderr.

    A request names its command in ``do``. A command that fails answers ``{"error": ...}``, so that the
    process can still be asked for something else.
    """
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = commands[request.pop("do")](request)
        except Exception as error:  # whatever goes wrong is the answer
            answer = {"error": _explain(error)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _explain(error: Exception) -> str:
    text = " ".join(str(error).split())[:300]
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in text:
        return f"out of memory ({text})"
    return f"{type(error).__name__}: {text}"


class Bench:
    """A network and the ways to run it.

    Args:
        network: Takes ``[B, T]``.
        sample_rate: Of the mixtures, in Hz.
        device: Where the network is.
    """

    def __init__(self, network: nn.Module, sample_rate: int, device: str) -> None:
        self.network, self.sample_rate, self.device = network, sample_rate, torch.device(device)
        self.loaded_bytes = peak_bytes(self.device, restart=True)
        self._optimizer: torch.optim.Optimizer | None = None

    def infer(self, request: Answer) -> Answer:
        """Time ``passes`` forward passes of ``seconds``."""
        self.network.eval()
        mixture = self.mixture(request["seconds"], 1)
        with torch.inference_mode():
            return self._time(lambda: self.network(mixture), request["passes"])

    def train(self, request: Answer) -> Answer:
        """Time ``passes`` training steps (there, back, Adam) of ``batch`` mixtures of ``seconds``."""
        self.network.train()
        mixture = self.mixture(request["seconds"], request["batch"])
        weights = [weight for weight in self.network.parameters() if weight.requires_grad]
        optimizer = self._optimizer = self._optimizer or torch.optim.Adam(weights, lr=1e-5)

        def step() -> None:
            optimizer.zero_grad(set_to_none=True)
            self.network(mixture).square().mean().backward()
            optimizer.step()

        return self._time(step, request["passes"])

    def estimate(self, request: Answer) -> Answer:
        """Write ``seconds`` of noise and what the network makes of it into ``file``."""
        self.network.eval()
        mixture = self.mixture(request["seconds"], 1)
        with torch.inference_mode():
            estimate = self.network(mixture)
        torch.save({"mixture": mixture.cpu(), "estimate": estimate.cpu()}, request["file"])
        return {}

    def mixture(self, seconds: float, batch: int) -> Tensor:
        """Noise ``[B, T]``, always the same."""
        generator = torch.Generator().manual_seed(0)
        num_samples = max(1, round(seconds * self.sample_rate))
        return (0.1 * torch.randn(batch, num_samples, generator=generator)).to(self.device)

    def _time(self, run: Callable[[], Any], passes: int) -> Answer:
        wall, cpu = [], []
        peak_bytes(self.device, restart=True)
        for _ in range(passes):
            wait_for(self.device)
            start_cpu, start = time.process_time(), time.perf_counter()
            run()
            wait_for(self.device)
            wall.append(time.perf_counter() - start)
            cpu.append(time.process_time() - start_cpu)
        return {"wall": wall, "cpu": cpu, "peak_bytes": peak_bytes(self.device)}


def wait_for(device: torch.device) -> None:
    """Until a GPU has done what it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def peak_bytes(device: torch.device, restart: bool = False) -> int | None:
    """The most memory held since the last restart: of CUDA's allocator, else of the process.

    Linux can forget an earlier peak of a process; elsewhere it is that of its whole life. On Apple's GPU
    it is what the driver holds now. None where the system does not tell.
    """
    if device.type == "cuda":
        if restart:
            torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.max_memory_allocated(device)
    if device.type == "mps":
        return torch.mps.driver_allocated_memory()
    if _STATUS.exists():
        if restart and os.access(_CLEAR, os.W_OK):
            _CLEAR.write_text("5")  # the peak becomes what is held now
        lines = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines() if ":" in line)
        return int(lines["VmHWM"].split()[0]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def free_bytes(device: torch.device) -> int | None:
    """Memory that may still be taken; None where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    table = Path("/proc/meminfo")
    if device.type == "cpu" and table.exists():
        return int(table.read_text().partition("MemAvailable:")[2].split()[0]) * 1024
    return None
