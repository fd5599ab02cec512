"""What a run takes in a fresh process: the other side of every prediction."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass

from polsess.models import ModelConfig


@dataclass(frozen=True)
class RunMeasurement:
    """One run of a model with fresh weights.

    Attributes:
        seconds: Of the quicker of two runs, by the clock.
        cpu_seconds: Of all threads, in that run.
        peak: Bytes that the process grew by since before the model was built: resident ones on a CPU, those
            of the allocator on CUDA; None where the system does not tell.
    """

    seconds: float
    cpu_seconds: float
    peak: int | None


def measure_run(
    config: ModelConfig,
    seconds: float,
    device: str = "cpu",
    *,
    training: bool = False,
    batch_size: int = 1,
    num_threads: int | None = None,
) -> RunMeasurement:
    """Build a model in a process of its own and run it twice on noise.

    Args:
        config: The model; its weights are fresh, since time and memory do not depend on them.
        seconds: Length of each mixture.
        device: Where to run.
        training: Whether it is a training step, with an Adam optimiser, instead of an inference.
        batch_size: B, mixtures at once.
        num_threads: Of the process; None for its default.

    Raises:
        RuntimeError: If the process failed, with its last words.
    """
    request = {
        "config": config.model_dump(mode="json"),
        "seconds": seconds,
        "device": device,
        "training": training,
        "batch_size": batch_size,
        "num_threads": num_threads,
    }
    command = [sys.executable, "-m", "polsess.costs.probe"]
    result = subprocess.run(  # noqa: S603 - our own module, no shell
        command, input=json.dumps(request), capture_output=True, text=True, check=False
    )
    if result.returncode != 0:
        words = result.stderr.strip().splitlines() or ["no message"]
        raise RuntimeError(f"measuring {config.model_type}: exit code {result.returncode}: {words[-1]}")
    return RunMeasurement(**json.loads(result.stdout))
