"""The process that holds a peer's network; run as a file by the Python that has the toolkit.

``PYTHON peer.py`` puts this folder first on the path: the two modules beside it are all that is needed.
"""

from __future__ import annotations

import runpy
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from measuring import Bench, serve  # type: ignore[import-not-found]
from networks import PEERS, SAMPLE_RATE, build_network  # type: ignore[import-not-found]

_ALLOCATOR = Path(__file__).parents[2] / "allocator.py"


class Session:
    """What one process is asked to do."""

    bench: Any = None

    def load(self, request: dict[str, Any]) -> dict[str, Any]:
        """Build the network of a name."""
        peer = PEERS[request["name"]]
        torch.set_num_threads(request["threads"])
        start = time.perf_counter()
        network = build_network(peer).to(request["device"])
        seconds = time.perf_counter() - start
        self.bench = Bench(network, SAMPLE_RATE, request["device"])
        if "state" in request:
            torch.save({key: value.cpu() for key, value in network.state_dict().items()}, request["state"])
        return {
            "load_seconds": seconds,
            "loaded_bytes": self.bench.loaded_bytes,
            "parameters": sum(weight.numel() for weight in network.parameters()),
            "torch": torch.__version__,
            "version": _version(peer.toolkit),
        }

    def estimate(self, request: dict[str, Any]) -> Any:
        """See ``Bench``."""
        return self.bench.estimate(request)

    def infer(self, request: dict[str, Any]) -> Any:
        """See ``Bench``."""
        return self.bench.infer(request)

    def train(self, request: dict[str, Any]) -> Any:
        """See ``Bench``."""
        return self.bench.train(request)


def _version(toolkit: str) -> str:
    try:
        return version(toolkit)
    except PackageNotFoundError:  # a source folder on the path
        return "from source"


if __name__ == "__main__":
    runpy.run_path(str(_ALLOCATOR))["tune_allocator"]()
    session = Session()
    commands = (session.load, session.estimate, session.infer, session.train)
    serve({each.__name__: each for each in commands})
