"""The process that runs a peer's network; the Python that has the toolkit runs this file.

Of this project it imports only what needs torch and the standard library alone.
"""

from __future__ import annotations

import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

sys.path.append(str(Path(__file__).parents[2]))
sys.path.append(str(Path(__file__).parents[2] / "src"))

from benchmarks.peers.networks import PEERS, SAMPLE_RATE, build_network
from polsess.allocator import tune_allocator
from polsess.measurement import Bench
from polsess.workers import serve


class Session:
    """One network and the requests that it answers; ``polsess.measurement.Bench`` explains the passes."""

    bench: Any = None
    dtype = torch.float32

    def load(self, request: dict[str, Any]) -> dict[str, Any]:
        """Build the network of a name."""
        peer = PEERS[request["name"]]
        torch.set_num_threads(request["threads"])
        start = time.perf_counter()
        network = build_network(peer).to(request["device"])
        seconds = time.perf_counter() - start
        precision = request.get("precision", "float32")
        self.dtype = torch.bfloat16 if precision == "auto" else getattr(torch, precision)
        self.bench = Bench(network, SAMPLE_RATE, request["device"], self.dtype)
        if "state" in request:
            torch.save({key: value.cpu() for key, value in network.state_dict().items()}, request["state"])
        return {
            "load_seconds": seconds,
            "parameters": sum(weight.numel() for weight in network.parameters()),
            "torch": torch.__version__,
            "version": _version(peer.toolkit),
            "precision": str(self.dtype).removeprefix("torch."),
        }

    def estimate(self, request: dict[str, Any]) -> Any:
        """Pass the request on."""
        return self.bench.estimate(request)

    def rest(self, request: dict[str, Any]) -> Any:
        """Pass the request on."""
        return self.bench.rest(request)

    def infer(self, request: dict[str, Any]) -> Any:
        """Pass the request on."""
        return self.bench.infer(request)

    def train(self, request: dict[str, Any]) -> Any:
        """Pass the request on."""
        return self.bench.train(request)


def _version(toolkit: str) -> str:
    try:
        return version(toolkit)
    except PackageNotFoundError:  # a source folder on the path
        return "from source"


if __name__ == "__main__":
    tune_allocator()
    session = Session()
    commands = (session.load, session.estimate, session.rest, session.infer, session.train)
    serve({each.__name__: each for each in commands})
