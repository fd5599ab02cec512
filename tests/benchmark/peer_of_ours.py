"""A stand-in for another toolkit's process: our own model, exact or a little wrong.

``python peer_of_ours.py FOLDER GAIN`` multiplies the estimates of the model in FOLDER by GAIN.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor, nn

from polsess.checkpoints import load_model
from polsess.measurement import Bench
from polsess.workers import serve


class Peer(nn.Module):
    def __init__(self, network: nn.Module, gain: float) -> None:
        super().__init__()
        self.network, self.gain = network, gain

    def forward(self, mixture: Tensor) -> Tensor:
        return self.gain * self.network(mixture)


def main() -> None:
    torch.set_num_threads(1)
    bench = Bench(Peer(load_model(sys.argv[1]), float(sys.argv[2])), 8000, "cpu")

    def load(request: dict[str, Any]) -> dict[str, Any]:
        return {"version": "1.2", "torch": request["name"]}

    passes = (bench.estimate, bench.rest, bench.infer, bench.train)
    serve({"load": load, **{each.__name__: each for each in passes}})


if __name__ == "__main__":
    main()
