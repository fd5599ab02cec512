"""Time and memory of an inference on this machine, extrapolated from two short runs in another process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from polsess.costs import count_macs
from polsess.measurement import WARM_UP_SECONDS, expected_growth
from polsess.models import create_model, parse_model_config
from polsess.schema import ConfigError
from polsess.text_tables import counted
from polsess.workers import Worker

PROCESS = (sys.executable, "-m", "polsess.costs.process")
SHORT_SECONDS, LONG_SECONDS = 0.5, 8.0
"""Audio of the first run, and at most of the second."""
BUDGET_SECONDS = 2.0
"""CPU time of the second run, as far as the first one foresees it."""

Progress = Callable[[int, int, str], None]
"""Receives the number of steps done, the number of all steps, and a description of the next one."""


@dataclass(frozen=True)
class Run:
    """One run, measured or extrapolated.

    Attributes:
        audio_seconds: Length of the mixture.
        seconds: Time by the clock.
        cpu_seconds: Time of all threads.
        grown_bytes: Memory above the process at rest; None where the system does not report it.
    """

    audio_seconds: float
    seconds: float
    cpu_seconds: float
    grown_bytes: int | None


@dataclass(frozen=True)
class Prediction:
    """Costs of one model, length and device.

    Attributes:
        model: Name as it was given.
        device: Device of the runs.
        num_threads: Threads of a CPU.
        rest_bytes: Memory of the process with the model, after a first short run.
        samples: The runs that were measured for the prediction, the shortest first.
        predicted: The run that was asked for.
        measured: The same run as it really was; None unless that was asked for.
    """

    model: str
    device: str
    num_threads: int
    rest_bytes: int | None
    samples: tuple[Run, ...]
    predicted: Run
    measured: Run | None


def predict(
    name: str,
    seconds: float,
    device: str = "cpu",
    *,
    measure: bool = False,
    progress: Progress | None = None,
) -> Prediction:
    """Predict an inference on a whole mixture.

    Time is extrapolated by the multiply-accumulates of the lengths, memory by its growth between the two
    runs. A mixture that is short enough is simply measured.

    Args:
        name: ``MODEL`` or ``MODEL:PRESET``.
        seconds: Length of the mixture.
        device: Device, e.g. ``cpu`` or ``cuda``.
        measure: Whether to run that length as well, however long it takes.
        progress: Receives every step.

    Raises:
        ConfigError: If there is no such model or preset, or the length is less than a sample.
        WorkerError: If the process failed; the message is the reason.
    """
    report = progress or (lambda *_: None)
    model_type, _, preset = name.partition(":")
    config = parse_model_config({"model_type": model_type} | ({"preset": preset} if preset else {}), name)
    if round(seconds * config.sample_rate) < 1:
        raise ConfigError(f"seconds: expected at least one sample at {config.sample_rate} Hz, got {seconds}.")
    threads, total = torch.get_num_threads(), 4 + measure
    report(0, total, "starting a process")
    with Worker(PROCESS, threads=threads) as worker:
        worker.ask("load", config=config.model_dump(mode="json"), threads=threads, device=device)
        report(1, total, "first run")
        rest = worker.ask("rest", seconds=WARM_UP_SECONDS)["rest_bytes"]
        samples = [_run(worker, min(SHORT_SECONDS, seconds))]
        report(2, total, "second run")
        longer = min(seconds, LONG_SECONDS, _affordable_seconds(samples[0]))
        if longer > samples[0].audio_seconds:
            samples.append(_run(worker, longer))
        report(3, total, "counting the arithmetic")
        predicted = _extrapolate(_arithmetic(config), samples, seconds)
        measured = None
        if measure:
            report(4, total, f"running {seconds:g} s of audio")
            measured = _run(worker, seconds)
    report(total, total, "done")
    return Prediction(name, device, threads, rest, tuple(samples), predicted, measured)


def _run(worker: Worker, seconds: float) -> Run:
    rest = worker.ask("rest", seconds=WARM_UP_SECONDS)["rest_bytes"]
    answer = worker.ask("infer", seconds=seconds, passes=1)
    peak = answer["peak_bytes"]
    grown = None if peak is None or rest is None else max(0, peak - rest)
    return Run(seconds, answer["wall"][0], answer["cpu"][0], grown)


def _affordable_seconds(first: Run) -> float:
    return first.audio_seconds * BUDGET_SECONDS / max(first.cpu_seconds, 1e-3)


def _arithmetic(config: Any) -> Callable[[float], int]:
    with torch.device("meta"):
        model = create_model(config)
    return lambda seconds: count_macs(model, seconds).total


def _extrapolate(macs_of: Callable[[float], int], samples: list[Run], seconds: float) -> Run:
    longest = samples[-1]
    if longest.audio_seconds == seconds:
        return longest
    work = macs_of(seconds) / macs_of(longest.audio_seconds)
    grown = {each.audio_seconds: float(each.grown_bytes) for each in samples if each.grown_bytes is not None}
    expected = expected_growth(grown, seconds)
    memory = None if expected is None else round(expected)
    return Run(seconds, longest.seconds * work, longest.cpu_seconds * work, memory)


def describe_prediction(prediction: Prediction) -> list[str]:
    """Return the prediction as text, a line for time and a line for memory."""
    predicted, measured, rest = prediction.predicted, prediction.measured, prediction.rest_bytes
    where = f", {counted(prediction.num_threads, 'thread')}" if prediction.device == "cpu" else ""
    factor = predicted.seconds / predicted.audio_seconds
    lines = [
        f"{prediction.model}, {predicted.audio_seconds:g} s of audio on {prediction.device}{where}:",
        f"  time    {predicted.seconds:.3g} s, {factor:.3g} of real time, CPU {predicted.cpu_seconds:.3g} s"
        + (_against(predicted.seconds, measured.seconds, f"{measured.seconds:.3g} s") if measured else ""),
    ]
    if rest is not None and predicted.grown_bytes is not None:
        grown = measured.grown_bytes if measured else None
        lines.append(
            f"  memory  {_mib(rest + predicted.grown_bytes)}: process with the model {_mib(rest)}, "
            f"run {_mib(predicted.grown_bytes)}"
            + ("" if grown is None else _against(predicted.grown_bytes, grown, _mib(grown)))
        )
    lengths = " and ".join(f"{each.audio_seconds:.2g} s" for each in prediction.samples)
    lines.append(f"  measured on {lengths}" + ("" if predicted in prediction.samples else ", extrapolated"))
    return lines


def _against(predicted: float, measured: float, text: str) -> str:
    change = f", {100 * (measured / predicted - 1):+.0f} %" if predicted else ""
    return f"; measured {text}{change}"


def _mib(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"
