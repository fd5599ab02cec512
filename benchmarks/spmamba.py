"""SPMamba's forward pass against a scan as its reference loops it, on the same weights; and memory by length.

The reference materialises the decays of all steps, loops over time in Python, flips the sequence for the
second direction and convolves with channels first. Rounds alternate; CPU seconds of one thread; the median
ratio counts.

    python benchmarks/spmamba.py [--seconds 1] [--blocks 6] [--rounds 3]
    python benchmarks/spmamba.py --memory forward --seconds 1   (or "training"; a fresh process each)
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from polsess.models import SeparationModel, create_model
from polsess.models.layers.mamba import Mamba


def looped_scan(layer: Mamba, x: Tensor, z: Tensor) -> Tensor:
    """Convolution, selection and scan of ``[B, L, D]``, every intermediate in memory."""
    channels, states = layer.A_log.shape
    rank, taps = layer.dt_proj.in_features, layer.conv1d.kernel_size[0]
    u = F.silu(F.conv1d(x.mT, layer.conv1d.weight, layer.conv1d.bias, padding=taps - 1, groups=channels))
    u = u[..., : x.shape[1]]  # [B, D, L]
    steps, b, c = layer.x_proj(u.mT).split((rank, states, states), dim=-1)
    dt = F.softplus(layer.dt_proj(steps)).mT  # [B, D, L]
    decays = torch.exp(torch.einsum("bdl,dn->bdln", dt, -layer.A_log.exp()))
    inputs = torch.einsum("bdl,bln,bdl->bdln", dt, b, u)
    state, outputs = torch.zeros_like(decays[:, :, 0]), []
    for index in range(x.shape[1]):
        state = decays[:, :, index] * state + inputs[:, :, index]
        outputs.append(torch.einsum("bdn,bn->bd", state, c[:, index]))
    y = torch.stack(outputs, dim=2) + u * layer.D.unsqueeze(-1)
    return y.mT * F.silu(z)


class LoopedMamba(nn.Module):
    """A layer as the reference computes it where no CUDA kernel is there."""

    def __init__(self, layer: Mamba) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, features: Tensor) -> Tensor:
        """``[B, L, M]`` to ``[B, L, M]``."""
        features = features.flip(1) if self.layer.reverse else features
        output = self.layer.out_proj(looped_scan(self.layer, *self.layer.in_proj(features).chunk(2, dim=-1)))
        return output.flip(1) if self.layer.reverse else output


def create(blocks: int, looped: bool) -> SeparationModel:
    """The published model at 8 kHz, with step sizes at which the scan matters."""
    torch.manual_seed(0)
    model = create_model("spmamba", preset="libri2mix", num_blocks=blocks).eval()
    for key, parameter in model.named_parameters():
        if key.endswith("dt_proj.bias"):
            nn.init.uniform_(parameter, -2.5, -1.0)
    for module in list(model.modules()) if looped else []:
        if not isinstance(module, nn.ModuleList):
            continue
        for index, child in enumerate(module):
            if isinstance(child, Mamba):
                module[index] = LoopedMamba(child)
    return model


def timed(forward: Callable[[Tensor], Tensor], mixture: Tensor, kernels: str) -> tuple[Tensor, float]:
    """The estimate and its CPU seconds."""
    os.environ["POLSESS_KERNELS"] = kernels
    with torch.inference_mode():
        start = time.process_time()
        return forward(mixture), time.process_time() - start


def compare(seconds: float, blocks: int, rounds: int) -> None:
    """Print the CPU time of the three and how far they are from each other."""
    ours, reference = create(blocks, False), create(blocks, True)
    mixture = 0.1 * torch.randn(1, round(8000 * seconds))
    timed(ours, mixture[:, :1000], "on")  # builds the kernel
    ratios: dict[str, list[float]] = {"on": [], "off": []}
    for _ in range(rounds):
        expected, looped = timed(reference, mixture, "off")
        for kernels, found in ratios.items():
            estimate, cpu = timed(ours, mixture, kernels)
            error = float((estimate - expected).norm() / expected.norm())
            if error > 1e-5:
                raise SystemExit(f"Kernels {kernels}: the estimates differ by {error:.1e}.")
            found.append(looped / cpu)
            print(f"kernels {kernels}: {cpu:.2f} s, looped {looped:.2f} s, relative difference {error:.1e}")
    for kernels, found in ratios.items():
        print(f"kernels {kernels}: {statistics.median(found):.2f} times as fast")


def measure_memory(mode: str, seconds: float, blocks: int) -> None:
    """Print how far the process's peak rises above the built model."""
    model, mixture = create(blocks, False), 0.1 * torch.randn(1, round(8000 * seconds))
    built = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if mode == "forward":
        with torch.inference_mode():
            model(mixture)
    else:
        model(mixture).square().sum().backward()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    own = (peak - built) >> 10
    print(f"{mode} of {seconds:g} s, {blocks} blocks: peak {peak >> 10} MB, {own} MB above the built model")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--blocks", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", choices=["forward", "training"])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.memory:
        measure_memory(arguments.memory, arguments.seconds, arguments.blocks)
    else:
        compare(arguments.seconds, arguments.blocks, arguments.rounds)


if __name__ == "__main__":
    main()
