"""How long a model will take on this machine and how much memory, and whether that was right."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from polsess.costs import (
    MemoryPrediction,
    RunMeasurement,
    TimePrediction,
    measure_run,
    predict_memory,
    predict_time,
)
from polsess.models import create_model, parse_model_config


@dataclass(frozen=True)
class Outlook:
    """A prediction for one model, length and device.

    Attributes:
        model: As it was asked for.
        seconds: Of audio.
        device: Where.
        num_threads: Of a CPU.
        time: The prediction.
        memory: The prediction for a CPU; None elsewhere.
        measured: What a fresh process then took, if that was asked for.
    """

    model: str
    seconds: float
    device: str
    num_threads: int
    time: TimePrediction
    memory: MemoryPrediction | None
    measured: RunMeasurement | None


def predict(name: str, seconds: float, device: str = "cpu", *, measure: bool = False) -> Outlook:
    """Predict an inference.

    Args:
        name: ``MODEL`` or ``MODEL:PRESET``.
        seconds: Of audio.
        device: ``cpu`` or ``cuda``.
        measure: Whether to run it as well, in a process of its own.

    Raises:
        ConfigError: If there is no such model or preset.
        ValueError: If the device or the length cannot be predicted for.
        RuntimeError: If the measured run failed.
    """
    model_type, _, preset = name.partition(":")
    config = parse_model_config({"model_type": model_type} | ({"preset": preset} if preset else {}), name)
    with torch.device("meta"):
        model = create_model(config)
    threads = torch.get_num_threads()
    time = predict_time(model, seconds, device)
    memory = predict_memory(model, seconds) if torch.device(device).type == "cpu" else None
    measured = measure_run(config, seconds, device, num_threads=threads) if measure else None
    return Outlook(name, seconds, device, threads, time, memory, measured)


def describe_outlook(outlook: Outlook) -> list[str]:
    """The prediction in words, one line for time and one for memory."""
    time, memory, measured = outlook.time, outlook.memory, outlook.measured
    where = f"{outlook.num_threads} thread(s)" if outlook.device == "cpu" else "one device"
    lines = [
        f"{outlook.model}, {outlook.seconds:g} s of audio on {outlook.device}, {where}:",
        f"  time    {time.seconds:.3g} s, {time.real_time_factor:.3g} of real time"
        + (_against(time.seconds, measured.seconds, f"{measured.seconds:.3g} s") if measured else ""),
    ]
    if memory is not None:
        peak = measured.peak if measured else None
        lines.append(
            f"  memory  {_mib(memory.peak)}: weights {_mib(memory.weights)}, "
            f"activations {_mib(memory.activations)}, libraries {_mib(memory.libraries)}"
            + ("" if peak is None else _against(memory.peak, peak, _mib(peak)))
        )
    return lines


def _against(predicted: float, measured: float, text: str) -> str:
    return f"; measured {text}, {100 * (measured / predicted - 1):+.0f} %"


def _mib(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"
