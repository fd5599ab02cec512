"""The process in which a model is measured: ``python -m polsess.costs.process`` serves one parent."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from polsess.allocator import tune_allocator
from polsess.measurement import Bench, free_bytes
from polsess.models import SeparationModel, create_model
from polsess.precision import choose_precision, name_of
from polsess.workers import Answer, serve


class Session:
    """One model and the requests that it answers; ``polsess.measurement.Bench`` explains the passes."""

    def __init__(self) -> None:
        self.bench: Bench | None = None

    def load(self, request: Answer) -> Answer:
        """Make the model ready for passes."""
        torch.set_num_threads(request["threads"])
        start = time.perf_counter()
        model = self.open_model(request)
        seconds = time.perf_counter() - start
        device, asked = torch.device(request["device"]), request.get("precision", "float32")
        dtype = choose_precision(asked, model.inference_dtype, device)
        self.bench = Bench(model, model.sample_rate, request["device"], dtype)
        return {"load_seconds": seconds, "precision": name_of(dtype)}

    def open_model(self, request: Answer) -> SeparationModel:
        """Create a model of a configuration with fresh weights, on which time and memory do not depend."""
        return create_model(request["config"]).to(request["device"])

    def free(self, request: Answer) -> Answer:
        """Return the memory that is left."""
        return {"free_bytes": free_bytes(torch.device(request["device"]))}

    def rest(self, request: Answer) -> Answer:
        """Return the memory that the process holds between passes."""
        return self.loaded().rest(request)

    def infer(self, request: Answer) -> Answer:
        """Measure inferences."""
        return self.loaded().infer(request)

    def train(self, request: Answer) -> Answer:
        """Measure training steps."""
        return self.loaded().train(request)

    def loaded(self) -> Bench:
        """Return the model with its passes.

        Raises:
            RuntimeError: If ``load`` was not called before.
        """
        if self.bench is None:
            raise RuntimeError("asked to run before anything was loaded")
        return self.bench

    def commands(self) -> list[Callable[[Any], Answer]]:
        """Return the methods that a parent may request by their names."""
        return [self.load, self.free, self.rest, self.infer, self.train]


def serve_session(session: Session) -> None:
    """Serve one parent, with the allocator that it chose."""
    tune_allocator()
    serve({each.__name__: each for each in session.commands()})


if __name__ == "__main__":
    serve_session(Session())
