"""Everything worth doing on a borrowed GPU, in one command and a fixed time: checks, speed, then training.

    python scripts/accelerator_run.py OUT -c bsrnn_sb_conversations_16k data.corpus.metadata=voices.csv

What comes first matters first: parity of every architecture with a float64 pass on the CPU, in float32
(without TF32) and in bfloat16; the selective scan in Triton against PyTorch; times of every architecture as
it is, compiled and as a CUDA graph; `polsess benchmark`; then `polsess train` for the time that is left. The
same command goes on: measured lines are kept, benchmark and training resume. OUT holds `results.json` (with
what is `missing`), `benchmark/` and `training/`.
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from polsess.machine import processor_name
from polsess.models import SeparationModel, create_model, list_models
from polsess.models.layers.kernels import scan_torch
from polsess.models.layers.kernels.scan_torch import ScanInputs

_SHARES = {"parity": 0.2, "scan": 0.22, "speed": 0.5, "benchmark": 0.6}
"""By which share of the time each part has to end; training gets the rest."""
_SAVING_SECONDS, _SAVING_SHARE = 20.0, 0.1
"""Kept for the end of a training to be written; no more than this share of the time."""
_LEAST_SECONDS = 15.0
"""A command of the package is not begun with less than this; it takes some of it to start."""
_REPEATS = 5


class Run:
    """Results on disk, and the time that is left."""

    def __init__(self, folder: Path, device: torch.device, minutes: float, preset: str | None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.device, self.preset = folder, device, preset
        self._start, self._seconds = time.monotonic(), 60 * minutes
        self._path = folder / "results.json"
        self.results: dict[str, Any] = json.loads(self._path.read_text()) if self._path.exists() else {}
        self.results["machine"] = {
            "device": torch.cuda.get_device_name() if device.type == "cuda" else processor_name(),
            "torch": torch.__version__,
        }

    @property
    def seconds(self) -> float:
        """The time for everything together."""
        return self._seconds

    def seconds_left(self, share: float = 1.0) -> float:
        """Until a share of the time is over."""
        return self._start + share * self._seconds - time.monotonic()

    def each(self, part: str, measure: Callable[[str], dict[str, Any]]) -> None:
        """Measure every architecture that has no result yet, until the part's time is over."""
        known = self.results.setdefault(part, {})
        for name in list_models(SeparationModel):
            if name in known and "error" not in known[name]:
                continue
            if self.seconds_left(_SHARES[part]) <= 0:
                print(f"{part}: no time for {name} and those after it", flush=True)
                return
            try:
                known[name] = measure(name)
            except (RuntimeError, ValueError, TypeError) as error:
                known[name] = {"error": str(error).splitlines()[0]}
            print(part, name, json.dumps(known[name]), flush=True)
            self.save()

    def save(self) -> None:
        """Write the results; a reader never sees half of them."""
        new = self._path.with_suffix(".new")
        new.write_text(json.dumps(self.results, indent=2) + "\n", encoding="utf-8")
        new.replace(self._path)

    def create(self, name: str) -> tuple[SeparationModel, Tensor]:
        """A model with reproducible weights, and a second of noise for it."""
        torch.manual_seed(0)
        model = create_model(name, preset=self.preset).eval()
        return model, 0.1 * torch.randn(1, model.sample_rate)


def relative_error(found: Tensor, true: Tensor) -> float:
    """Root mean square of the difference over that of the truth."""
    return float((found.double().cpu() - true).norm() / true.norm())


@torch.inference_mode()
def measure_parity(run: Run, name: str) -> dict[str, Any]:
    """Errors of float32 and bfloat16 on the device, relative to float64 on the CPU."""
    model, mixture = run.create(name)
    true = model.double()(mixture.double())
    model, mixture = model.float().to(run.device), mixture.to(run.device)
    line: dict[str, Any] = {"float32": relative_error(model(mixture), true)}
    with torch.autocast(run.device.type, torch.bfloat16):
        line["bfloat16"] = relative_error(model(mixture), true)
    return line


def milliseconds(call: Callable[[], object], device: torch.device) -> float:
    """Median of some calls after two that do not count."""
    times = []
    for _ in range(2 + _REPEATS):
        start = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(1000 * (time.perf_counter() - start))
    return round(statistics.median(times[2:]), 3)


@torch.inference_mode()
def measure_speed(run: Run, name: str) -> dict[str, Any]:
    """Milliseconds for a second of sound, in both precisions: as it is, compiled, as a CUDA graph."""
    line: dict[str, Any] = {}
    for precision in ("float32", "bfloat16"):
        model, mixture = run.create(name)
        model, mixture = model.to(run.device), mixture.to(run.device)
        with torch.autocast(run.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            line[precision] = milliseconds(lambda: model(mixture), run.device)  # noqa: B023
            if run.device.type == "cuda":
                line[f"{precision}_graph"] = measure_graph(model, mixture, run.device)
            if model.supports_compile and run.seconds_left(_SHARES["speed"]) > 0:
                model.compile_pass()
                line[f"{precision}_compiled"] = milliseconds(lambda: model(mixture), run.device)  # noqa: B023
    return line


def measure_graph(model: SeparationModel, mixture: Tensor, device: torch.device) -> float | str:
    """Milliseconds of the pass replayed as a CUDA graph, or why it cannot be one."""
    try:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                model(mixture)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            model(mixture)
    except RuntimeError as error:
        return str(error).splitlines()[0]
    return milliseconds(graph.replay, device)


def measure_scan(run: Run) -> None:
    """The scan of state-space models in Triton against PyTorch: error to float64, and milliseconds."""
    if "scan" in run.results:
        return
    torch.manual_seed(0)
    batch, length, channels, states = 4, 4000, 256, 16
    rows = (torch.randn(batch, length, channels), torch.rand(batch, length, channels))
    matrices = (torch.randn(batch, length, states), torch.randn(batch, length, states))
    rates, skip = -torch.rand(channels, states) - 0.1, torch.randn(channels)
    tensors = (*rows, rates, *matrices, skip, None, None, None)

    def inputs(change: Callable[[Tensor], Tensor]) -> ScanInputs:
        return ScanInputs(*(None if each is None else change(each) for each in tensors))  # type: ignore[arg-type]

    true = scan_torch.forward(inputs(Tensor.double), keep_states=False)[0]
    on_device = inputs(lambda each: each.to(run.device))
    backends: dict[str, Any] = {"pytorch": scan_torch}
    if run.device.type == "cuda":
        from polsess.models.layers.kernels import scan_triton

        backends["triton"] = scan_triton
    lines = {}
    for name, backend in backends.items():
        forward = backend.forward
        lines[name] = {
            "error": relative_error(forward(on_device, keep_states=False)[0], true),
            "milliseconds": milliseconds(lambda: forward(on_device, keep_states=False), run.device),  # noqa: B023
        }
    run.results["scan"] = lines
    print("scan", json.dumps(lines), flush=True)
    run.save()


def call_polsess(seconds: float, *words: str) -> int | None:
    """Run a command of the package; when its time is over, it is asked to end in order.

    Returns:
        Its exit code; None where there is too little time to begin.
    """
    if seconds < _LEAST_SECONDS:
        print(f"polsess {words[0]}: no time, {seconds:.0f} s are left for it", flush=True)
        return None
    print("polsess", *words, flush=True)
    process = subprocess.Popen([sys.executable, "-m", "polsess", *words])  # noqa: S603
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)
        return process.wait()


def benchmark(run: Run) -> None:
    """`polsess benchmark` on the device, as long as its part of the time allows; a later call goes on."""
    if run.results.get("benchmark_exit_code") == 0:
        return
    part = _SHARES["benchmark"] - _SHARES["speed"]
    # The same budget in each call, since a run goes on only with its own settings.
    budget = part * run.seconds / len(list_models(SeparationModel))
    words = ["--device", run.device.type, "--seconds", "1,4", "--rounds", "1"]
    words += ["--budget-seconds", f"{max(1.0, budget):.1f}", "-o", str(run.folder / "benchmark")]
    words += ["--preset", run.preset] if run.preset else []
    run.results["benchmark_exit_code"] = call_polsess(
        run.seconds_left(_SHARES["benchmark"]), "benchmark", *words
    )
    run.save()


def train(run: Run, config: str, options: list[str]) -> None:
    """Begin or go on with the training for the rest of the time."""
    folder = run.folder / "training"
    begun = any((folder / "checkpoints").glob("*.ckpt"))
    words = ["train", "-o", str(folder), *(["--resume"] if begun else ["-c", config, *options])]
    words += [] if begun else [f"training.device={run.device.type}"]
    left = run.seconds_left() - min(_SAVING_SECONDS, _SAVING_SHARE * run.seconds)
    run.results["training_exit_code"] = call_polsess(left, *words)
    run.save()


def note_missing(run: Run) -> None:
    """Say in the results what the next call still has to measure."""
    names = list_models(SeparationModel)
    missing: dict[str, Any] = {
        part: [name for name in names if "error" in run.results[part].get(name, {"error": ""})]
        for part in ("parity", "speed")
    }
    missing["benchmark"] = run.results["benchmark_exit_code"] != 0
    run.results["missing"] = {part: what for part, what in missing.items() if what}
    run.save()
    print("missing:", json.dumps(run.results["missing"]) if run.results["missing"] else "nothing", flush=True)


def main() -> None:
    """Do what the arguments say."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="folder for results and training")
    parser.add_argument("options", nargs="*", help="settings of the training, as for polsess train")
    parser.add_argument("--device", default="cuda", help="cuda, mps or cpu")
    parser.add_argument("--minutes", type=float, default=10.0, help="time for everything together")
    parser.add_argument("--preset", help="preset of the architectures; their defaults if not given")
    parser.add_argument("-c", "--config", required=True, help="recipe of the training")
    arguments = parser.parse_intermixed_args()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    device = torch.device(arguments.device)
    run = Run(arguments.out, device, arguments.minutes, arguments.preset)
    run.each("parity", lambda name: measure_parity(run, name))
    measure_scan(run)
    run.each("speed", lambda name: measure_speed(run, name))
    benchmark(run)
    train(run, arguments.config, arguments.options)
    note_missing(run)


if __name__ == "__main__":
    main()
