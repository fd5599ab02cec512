"""Streams of causal networks: equality with the whole, latency, real-time factor, worst push.

Run: python benchmarks/streaming.py [MODEL[:PRESET]]... ; fresh weights, one thread, pushes of 10 ms.
"""

from __future__ import annotations

import argparse
import time

import torch

from polsess import StreamingSeparator, create_model
from polsess.text_tables import markdown

CAUSAL: dict[str, dict[str, object]] = {
    "convtasnet, cLN": {"model_type": "convtasnet", "causal": True, "norm": "cLN"},
    "lstmtasnet:causal": {"model_type": "lstmtasnet", "preset": "causal"},
    "skim:skim-causal": {"model_type": "skim", "preset": "skim-causal"},
    "dprnn:causal, filters of 16": {
        "model_type": "dprnn", "preset": "causal", "kernel_size": 16, "chunk_size": 100,
    },
    "gtcrn, 8 kHz": {"model_type": "gtcrn", "sample_rate": 8000},
}  # fmt: skip
SECONDS, PUSH_SECONDS = 4.0, 0.01


def measure(name: str, config: dict[str, object]) -> list[str]:
    """One row of the table."""
    torch.manual_seed(0)
    model = create_model(config).eval()
    rate = model.sample_rate
    sound = 0.1 * torch.randn(round(SECONDS * rate))
    with torch.inference_mode():
        whole = model(sound[None]).view(-1, len(sound))
    stream = StreamingSeparator(model)
    parts, wall, cpu = [], [], []
    for piece in sound.split(round(PUSH_SECONDS * rate)):
        begin = time.perf_counter(), time.process_time()
        parts.append(stream.push(piece))
        wall.append(time.perf_counter() - begin[0])
        cpu.append(time.process_time() - begin[1])
    error = (torch.cat([*parts, stream.flush()], -1) - whole).abs().max().item()
    latency = 1000 * stream.latency_samples / rate
    return [
        name,
        f"{error:.0e}",
        f"{latency:.1f}",
        f"{sum(cpu) / SECONDS:.2f}",
        f"{sum(wall) / SECONDS:.2f}",
        f"{1000 * max(cpu):.0f}",
        f"{1000 * max(wall):.0f}",
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", metavar="MODEL[:PRESET]", help="causal ones; five if left out")
    names = parser.parse_args().networks
    torch.set_num_threads(1)
    chosen: dict[str, dict[str, object]] = {
        name: dict(zip(("model_type", "preset"), name.split(":"), strict=False)) for name in names
    }
    header = ["network", "largest difference", "latency [ms]", "RTF (CPU)", "RTF (wall)"]
    header += ["worst push, CPU [ms]", "wall [ms]"]
    print(markdown(header, [measure(name, config) for name, config in (chosen or CAUSAL).items()]))


if __name__ == "__main__":
    main()
