"""The process that runs our network with a peer's weights; ``PYTHON ours.py`` serves one parent."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.peers.conversion import convert
from polsess.benchmark import process
from polsess.checkpoints import save_model
from polsess.costs.process import serve_session
from polsess.signal_ratios import si_snr
from polsess.workers import Answer


class Session(process.Session):
    """A model with a peer's weights and the requests that it answers."""

    def convert(self, request: Answer) -> Answer:
        """Write the model that has a peer's weights into ``folder``."""
        state = torch.load(request["state"], weights_only=True)
        model = convert(request["name"], state)
        save_model(model, request["folder"])
        return {"model_type": model.model_type}

    def agree(self, request: Answer) -> Answer:
        """Return how far this model's estimate of a peer's mixture is from the peer's."""
        peer = torch.load(request["file"], weights_only=True)
        expected, network = peer["estimate"], self.loaded().network
        with torch.inference_mode():
            found = network(peer["mixture"].to(self.loaded().device)).cpu()
        if found.shape != expected.shape:
            return {"error": f"shapes differ: ours {list(found.shape)}, theirs {list(expected.shape)}"}
        if not (bool(found.isfinite().all()) and bool(expected.isfinite().all())):
            return {"error": "estimates hold NaN or infinite values"}
        return {
            "max_error": float((found - expected).abs().max()),
            "relative_error": float((found - expected).norm() / expected.norm()),
            "si_snr_db": float(si_snr(found, expected).min()),
        }

    def commands(self) -> list[Callable[[Any], Answer]]:
        return [self.convert, self.agree, *super().commands()]


if __name__ == "__main__":
    serve_session(Session())
