"""How much the faster products, or more threads, gain: every architecture both ways, in turn, in one process.

    python benchmarks/products.py [MODEL[:PRESET]]... [--seconds 2] [--rounds 5] [--training] [--threads 2]

CPU time on one thread; with --threads, the clock's time on one thread and on as many: let nothing else run.
Both must give the same numbers before anything is timed: outputs to 1e-4, gradients of a fresh network to
5e-3, since their own rounding errors in float32 reach 1e-3.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from polsess.allocator import tune_allocator
from polsess.measurement import measure
from polsess.models import SeparationModel, create_model, list_models
from polsess.models.layers import products
from polsess.models.layers.products import Products, choose_products

PLAIN = Products("MKL")


class Way(NamedTuple):
    """One of two ways to run a model.

    Attributes:
        label: Its name in the table.
        choose: Makes this process run models this way.
    """

    label: str
    choose: Callable[[], object]


def use(chosen: Products) -> None:
    """Let every product of this process run by one library."""
    products.choose_products = lambda: chosen  # type: ignore[assignment]


def create_pass(model: SeparationModel, mixture: Tensor, training: bool) -> Callable[[], Tensor]:
    """An inference, or a training step without the optimiser that returns a gradient."""

    def infer() -> Tensor:
        with torch.inference_mode():
            return model(mixture)

    def step() -> Tensor:
        model.zero_grad(set_to_none=True)
        model(mixture).square().mean().backward()
        gradients = [each.grad.flatten() for each in model.parameters() if each.grad is not None]
        return torch.cat(gradients)

    return step if training else infer


def compare(name: str, ways: tuple[Way, Way], options: argparse.Namespace) -> str:
    """A row of the table: the second way against the first."""
    torch.manual_seed(0)
    architecture, _, preset = name.partition(":")
    model = create_model(architecture, preset=preset or None).eval()
    mixture = 0.1 * torch.randn(1, round(options.seconds * model.sample_rate))
    run = create_pass(model, mixture, options.training)
    outputs = []
    for way in ways:
        way.choose()
        outputs.append(run())
    error = float((outputs[1] - outputs[0]).norm() / outputs[0].norm())
    if not error < (5e-3 if options.training else 1e-4):
        raise SystemExit(f"{name}: the outputs differ by {error:.1e}; nothing was timed.")
    times: dict[str, list[float]] = {way.label: [] for way in ways}
    for number in range(options.rounds):
        for way in ways if number % 2 else reversed(ways):
            way.choose()
            found = measure(run, mixture.device)
            times[way.label].append((found.wall if options.threads > 1 else found.cpu)[0])
    plain, new = times.values()
    ratio = statistics.median(before / after for before, after in zip(plain, new, strict=True))
    per_second = [statistics.median(each) / options.seconds for each in (plain, new)]
    return f"| {name} | {per_second[0]:.3f} | {per_second[1]:.3f} | {ratio:.2f} | {error:.0e} |"


def two_libraries() -> tuple[Way, Way]:
    """MKL, then the faster library of this processor."""
    fast = choose_products()
    if fast.library == PLAIN.library:
        raise SystemExit(f"Nothing to compare: {fast.reason}.")
    print(f"{fast.library}, {fast.gain:.2f} times MKL in the trial.")
    return Way(PLAIN.library, lambda: use(PLAIN)), Way(fast.library, lambda: use(fast))


def two_numbers_of_threads(threads: int) -> tuple[Way, Way]:
    """One thread, then as many."""
    several = Way(f"{threads} threads", lambda: torch.set_num_threads(threads))
    return Way("1 thread", lambda: torch.set_num_threads(1)), several


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--training", action="store_true")
    parser.add_argument("--threads", type=int, default=1, help="Compare one thread with as many.")
    options = parser.parse_args()
    torch.set_num_threads(1)
    tune_allocator()
    several = options.threads > 1
    ways = two_numbers_of_threads(options.threads) if several else two_libraries()
    print(f"Load average {os.getloadavg()[0]:.1f} at the start.\n")
    columns = (f"{way.label}: {'' if several else 'CPU '}s per s" for way in ways)
    print(f"| model | {' | '.join(columns)} | times as fast | difference |")
    print("|---|---:|---:|---:|---:|")
    for name in options.models or list_models():
        print(compare(name, ways, options), flush=True)
    print(f"\nLoad average {os.getloadavg()[0]:.1f} at the end.")


if __name__ == "__main__":
    main()
