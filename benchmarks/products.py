"""How much the faster products gain: every architecture with and without them, in turn, in one process.

    python benchmarks/products.py [MODEL[:PRESET]]... [--seconds 2] [--rounds 5] [--training]

CPU time on one thread. Both must give the same numbers before anything is timed: outputs to 1e-4, gradients
of a fresh network to 5e-3, since their own rounding errors in float32 reach 1e-3.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Callable

import torch
from torch import Tensor

from polsess.allocator import tune_allocator
from polsess.measurement import measure
from polsess.models import SeparationModel, create_model, list_models
from polsess.models.layers import products
from polsess.models.layers.products import Products, choose_products

PLAIN = Products("MKL")


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


def compare(name: str, fast: Products, options: argparse.Namespace) -> str:
    """A row of the table."""
    torch.manual_seed(0)
    architecture, _, preset = name.partition(":")
    model = create_model(architecture, preset=preset or None).eval()
    mixture = 0.1 * torch.randn(1, round(options.seconds * model.sample_rate))
    run = create_pass(model, mixture, options.training)
    outputs = []
    for chosen in (PLAIN, fast):
        use(chosen)
        outputs.append(run())
    error = float((outputs[1] - outputs[0]).norm() / outputs[0].norm())
    if not error < (5e-3 if options.training else 1e-4):
        raise SystemExit(f"{name}: the outputs differ by {error:.1e}; nothing was timed.")
    times: dict[str, list[float]] = {PLAIN.library: [], fast.library: []}
    for number in range(options.rounds):
        for chosen in (PLAIN, fast) if number % 2 else (fast, PLAIN):
            use(chosen)
            times[chosen.library].append(measure(run, mixture.device).cpu[0])
    plain, new = (times[each.library] for each in (PLAIN, fast))
    ratio = statistics.median(before / after for before, after in zip(plain, new, strict=True))
    per_second = [statistics.median(each) / options.seconds for each in (plain, new)]
    return f"| {name} | {per_second[0]:.3f} | {per_second[1]:.3f} | {ratio:.2f} | {error:.0e} |"


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--training", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    tune_allocator()
    fast = choose_products()
    if fast.library == PLAIN.library:
        raise SystemExit(f"Nothing to compare: {fast.reason}.")
    load = f"{os.getloadavg()[0]:.1f}"
    print(f"{fast.library}, {fast.gain:.2f} times MKL in the trial; load average {load} at the start\n")
    print("| model | MKL: CPU s per s | oneDNN: CPU s per s | times as fast | difference |")
    print("|---|---:|---:|---:|---:|")
    for name in options.models or list_models():
        print(compare(name, fast, options), flush=True)
    print(f"\nLoad average {os.getloadavg()[0]:.1f} at the end.")


if __name__ == "__main__":
    main()
