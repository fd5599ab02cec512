"""The training engine against a plain loop: the same scores, and how much time it adds to a step.

    python benchmarks/engine_overhead.py data/speech/metadata.csv --seeds 3 --epochs 4

The metadata is that of a corpus of clips (docs/data.md). Both train the same small ConvTasNet on the same
mixtures from the same weights, in turn, on one thread; the loop is tests/training/plain_loop.py.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from polsess.allocator import tune_allocator
from polsess.checkpoints import load_model
from polsess.config import Config, parse_config
from polsess.training.module import TrainingModule
from polsess.training.run import train
from tests.training.plain_loop import test_score as score_of
from tests.training.plain_loop import train_plainly


def create_config(arguments: argparse.Namespace, seed: int) -> Config:
    """A ConvTasNet of 0.3 M parameters on mixtures of two seconds."""
    size = {"num_filters": 128, "bottleneck_channels": 64, "hidden_channels": 128, "skip_channels": 64}
    corpus = {
        "corpus_type": "speech_clips",
        "metadata": str(arguments.metadata),
        "segment_seconds": 2.0,
        "examples_per_epoch": 4 * arguments.steps,
        "evaluation_examples": arguments.test_examples,
    }
    return parse_config(
        {
            "seed": seed,
            "model": {"model_type": "convtasnet", "num_repeats": 2, "num_blocks": 6, **size},
            "data": {"corpus": corpus, "batch_size": 4},
            "training": {
                "max_epochs": arguments.epochs,
                "optimizer": {"schedule": "constant"},
                "device": "cpu",
            },
        }
    )


def train_with_engine(config: Config) -> tuple[torch.nn.Module, list[tuple[float, float]]]:
    """The model after the last step, and when each step began."""
    started: list[tuple[float, float]] = []
    original = TrainingModule.on_train_batch_start

    def watched(self: TrainingModule, *arguments: Any) -> Any:
        started.append((time.perf_counter(), time.process_time()))
        return original(self, *arguments)

    TrainingModule.on_train_batch_start = watched  # type: ignore[method-assign, assignment]
    try:
        with tempfile.TemporaryDirectory() as folder:
            train(config, Path(folder) / "run", progress=False)
            return load_model(Path(folder) / "run" / "checkpoints" / "last.ckpt"), started
    finally:
        TrainingModule.on_train_batch_start = original  # type: ignore[method-assign]


def step_times(started: list[tuple[float, float]], steps: int) -> tuple[float, float]:
    """Median clock and processor time from one step to the next, without the ends of epochs."""
    within = [
        pair for index, pair in enumerate(pairwise(started)) if (index + 1) % steps and index % steps > 1
    ]
    return tuple(statistics.median(after[i] - before[i] for before, after in within) for i in (0, 1))  # type: ignore[return-value]


def main() -> None:
    """Print a row per seed and the ratio of the times."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("metadata", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--steps", type=int, default=40, help="in an epoch")
    parser.add_argument("--test-examples", type=int, default=20)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    tune_allocator()
    train_plainly(create_config(argparse.Namespace(**{**vars(arguments), "steps": 2, "epochs": 1}), 0))
    ratios = []
    print(
        "| seed | plain [dB] | engine [dB] | plain [ms/step] | engine [ms/step] | added, clock | added, CPU |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|")
    for seed in range(arguments.seeds):
        config = create_config(arguments, seed)
        engine = train_with_engine(config) if seed % 2 else None  # who goes first must not matter
        plain = train_plainly(config)
        model, started = engine or train_with_engine(config)
        before, after = (step_times(each, arguments.steps) for each in (plain.started, started))
        ratios.append((after[0] / before[0], after[1] / before[1]))
        print(
            f"| {seed} | {score_of(plain.model, config):.3f} | {score_of(model, config):.3f} "  # type: ignore[arg-type]
            f"| {1e3 * before[0]:.1f} | {1e3 * after[0]:.1f} "
            f"| {100 * (ratios[-1][0] - 1):+.1f} % | {100 * (ratios[-1][1] - 1):+.1f} % |",
            flush=True,
        )
    clock, cpu = (statistics.median(column) for column in zip(*ratios, strict=True))
    print(
        f"\nAdded by the engine, median: {100 * (clock - 1):+.1f} % clock, {100 * (cpu - 1):+.1f} % CPU time"
    )


if __name__ == "__main__":
    main()
