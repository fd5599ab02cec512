"""Time and memory of passes through a network, and how they grow with the length of the mixture.

Needs torch and the standard library only, so that a process of another environment can import this file.

Shapes: B batch, T samples.
"""

from __future__ import annotations

import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from polsess.allocator import release_free_memory

WARM_UP_SECONDS = 0.05
"""Of the mixture after which a process counts as at rest: libraries set themselves up on it."""
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Measurement:
    """Passes of one kind in this process.

    Attributes:
        wall: Seconds of each pass.
        cpu: Seconds of all threads in each pass.
        peak_bytes: The most memory held meanwhile; None where the system does not report it.
    """

    wall: tuple[float, ...]
    cpu: tuple[float, ...]
    peak_bytes: int | None


def measure(run: Callable[[], object], device: torch.device, passes: int = 1) -> Measurement:
    """Call a function several times and measure each call, work on a GPU included.

    Args:
        run: One pass.
        device: Device that the pass works on.
        passes: Number of calls.
    """
    wall, cpu = [], []
    peak_bytes(device, restart=True)
    for _ in range(passes):
        wait_for(device)
        start_cpu, start = time.process_time(), time.perf_counter()
        run()
        wait_for(device)
        wall.append(time.perf_counter() - start)
        cpu.append(time.process_time() - start_cpu)
    return Measurement(tuple(wall), tuple(cpu), peak_bytes(device))


class Bench:
    """A network with its measurements; requests and answers are those of ``polsess.workers``.

    Args:
        network: Module that takes ``[B, T]``.
        sample_rate: Sample rate of the mixtures, in Hz.
        device: Device of the network.
        dtype: Of the network's products; other than float32 by autocast.
    """

    def __init__(
        self, network: nn.Module, sample_rate: int, device: str, dtype: torch.dtype = torch.float32
    ) -> None:
        self.network, self.sample_rate, self.device = network, sample_rate, torch.device(device)
        self._dtype = dtype
        self._optimizer: torch.optim.Optimizer | None = None

    def rest(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Run once on ``seconds``, return freed memory to the system, and report what is then held."""
        self.infer({**request, "passes": 1})
        release_free_memory()
        return {"rest_bytes": peak_bytes(self.device, restart=True)}

    def infer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Measure ``passes`` inferences on a mixture of ``seconds``."""
        self.network.eval()
        mixture = self.mixture(request["seconds"], 1)
        with torch.inference_mode(), self._precision():
            return asdict(measure(lambda: self.network(mixture), self.device, request["passes"]))

    def train(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Measure ``passes`` training steps with Adam on ``batch`` mixtures of ``seconds``."""
        self.network.train()
        mixture = self.mixture(request["seconds"], request["batch"])
        weights = [weight for weight in self.network.parameters() if weight.requires_grad]
        optimizer = self._optimizer = self._optimizer or torch.optim.Adam(weights, lr=1e-5)

        def step() -> None:
            optimizer.zero_grad(set_to_none=True)
            with self._precision():
                estimate = self.network(mixture)
            estimate.float().square().mean().backward()
            optimizer.step()

        return asdict(measure(step, self.device, request["passes"]))

    def estimate(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Write ``seconds`` of noise and the network's estimate for it, in float32, into ``file``."""
        self.network.eval()
        mixture = self.mixture(request["seconds"], 1)
        with torch.inference_mode():
            estimate = self.network(mixture)
        torch.save({"mixture": mixture.cpu(), "estimate": estimate.cpu()}, request["file"])
        return {}

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.device.type, self._dtype, enabled=self._dtype != torch.float32)

    def mixture(self, seconds: float, batch: int) -> Tensor:
        """Noise ``[B, T]``, always the same."""
        generator = torch.Generator().manual_seed(0)
        num_samples = max(1, round(seconds * self.sample_rate))
        return (0.1 * torch.randn(batch, num_samples, generator=generator)).to(self.device)


def wait_for(device: torch.device) -> None:
    """Wait until a GPU has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def peak_bytes(device: torch.device, restart: bool = False) -> int | None:
    """Return the most memory held since the last restart: by CUDA's allocator, else by the process.

    Linux can forget an earlier peak of a process; elsewhere the peak of its whole life is returned. On
    Apple's GPU it is the memory that the driver holds now. None where the system does not report it.
    """
    if device.type == "cuda":
        if restart:
            torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.max_memory_allocated(device)
    if device.type == "mps":
        return torch.mps.driver_allocated_memory()
    if _STATUS.exists():
        if restart and os.access(_CLEAR, os.W_OK):
            _CLEAR.write_text("5")  # proc(5): the peak starts anew
        lines = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines() if ":" in line)
        return int(lines["VmHWM"].split()[0]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def free_bytes(device: torch.device) -> int | None:
    """Return the memory that is still free; None where the system does not report it."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    table = Path("/proc/meminfo")
    if device.type == "cpu" and table.exists():
        return int(table.read_text().partition("MemAvailable:")[2].split()[0]) * 1024
    return None


def growth_exponent(values: Mapping[float, float]) -> float | None:
    """Fit ``value = a * length ** p`` by least squares on logarithms and return p.

    Args:
        values: Values by length; those that are not above zero are left out.

    Returns:
        None with fewer than two lengths.
    """
    points = [(math.log(length), math.log(value)) for length, value in values.items() if value > 0 < length]
    if len(points) < 2:
        return None
    slope, _ = statistics.linear_regression(*zip(*points, strict=True))
    return slope


def expected_growth(grown: Mapping[float, float], length: float) -> float | None:
    """Extrapolate memory from shorter mixtures: by its power, or by a line where that is less than 1.

    Args:
        grown: Bytes above the process at rest, by length.
        length: Length of the mixture, in the same unit.

    Returns:
        None if no mixture was at most as long and took memory.
    """
    shorter = {each: value for each, value in grown.items() if each <= length and value > 0}
    if not shorter:
        return None
    shortest, longest = min(shorter), max(shorter)
    exponent = growth_exponent(shorter)
    if exponent is not None and exponent < 1:  # something that does not grow, and in proportion the rest
        slope = (shorter[longest] - shorter[shortest]) / (longest - shortest)
        return shorter[longest] + max(0.0, slope) * (length - longest)
    return shorter[longest] * (length / longest) ** (exponent or 1.0)
