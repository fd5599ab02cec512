"""The process that holds a model of this library: ``python -m polsess.benchmark.workers.ours``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch

from polsess.allocator import tune_allocator
from polsess.benchmark.workers.measuring import Answer, Bench, free_bytes, serve

MAC_SECONDS = 4.0
"""Networks pad a short mixture to whole chunks, so that one second would cost more than a second of four."""


class Session:
    """What one process is asked to do."""

    def __init__(self) -> None:
        self.bench: Bench | None = None

    def prepare(self, request: Answer) -> Answer:
        """Write a model of a configuration or a source into ``folder`` and tell what it is."""
        from polsess.checkpoints import load_model, save_model
        from polsess.models import create_model

        torch.manual_seed(0)
        source = request.get("source")
        model = load_model(source) if source else create_model(request["config"]).eval()
        save_model(model, request["folder"])
        return _facts(model, Path(request["folder"]))

    def convert(self, request: Answer) -> Answer:
        """Write the model that has a peer's weights into ``folder``."""
        from polsess.benchmark.workers.converting import convert
        from polsess.checkpoints import save_model

        state = torch.load(request["state"], weights_only=True)
        model = convert(request["name"], state)
        save_model(model, request["folder"])
        return {"model_type": model.model_type}

    def load(self, request: Answer) -> Answer:
        """Load the model of a folder."""
        from polsess.checkpoints import load_model

        torch.set_num_threads(request["threads"])
        start = time.perf_counter()
        model = load_model(request["folder"], device=request["device"])
        seconds = time.perf_counter() - start
        self.bench = Bench(model, model.sample_rate, request["device"])
        return {"load_seconds": seconds, "loaded_bytes": self.bench.loaded_bytes}

    def free(self, request: Answer) -> Answer:
        """How much memory is left."""
        return {"free_bytes": free_bytes(torch.device(request["device"]))}

    def agree(self, request: Answer) -> Answer:
        """How far this model's estimate of a peer's mixture is from the peer's."""
        from polsess.signal_ratios import si_snr

        peer = torch.load(request["file"], weights_only=True)
        expected, network = peer["estimate"], self._loaded().network
        with torch.inference_mode():
            found = network(peer["mixture"].to(self._loaded().device)).cpu()
        if found.shape != expected.shape:
            return {"error": f"shapes differ: ours {list(found.shape)}, theirs {list(expected.shape)}"}
        if not (bool(found.isfinite().all()) and bool(expected.isfinite().all())):
            return {"error": "estimates hold NaN or infinite values"}
        return {
            "max_error": float((found - expected).abs().max()),
            "relative_error": float((found - expected).norm() / expected.norm()),
            "si_snr_db": float(si_snr(found, expected).min()),
        }

    def infer(self, request: Answer) -> Answer:
        """See ``Bench``."""
        return self._loaded().infer(request)

    def train(self, request: Answer) -> Answer:
        """See ``Bench``."""
        return self._loaded().train(request)

    def _loaded(self) -> Bench:
        if self.bench is None:
            raise RuntimeError("asked to run before anything was loaded")
        return self.bench


def _facts(model: Any, folder: Path) -> Answer:
    from polsess.checkpoints.native import WEIGHTS
    from polsess.costs import count_macs

    macs = count_macs(model, seconds=MAC_SECONDS)
    return {
        "model_type": model.model_type,
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "macs_per_second": macs.per_second,
        "macs_by_kind": {kind: value / MAC_SECONDS for kind, value in macs.by_kind.items()},
        "sample_rate": model.sample_rate,
        "num_sources": model.output_sources,
        "causal": model.causal,
        "look_ahead_samples": model.look_ahead_samples,
        "file_bytes": (folder / WEIGHTS).stat().st_size,
    }


def main() -> None:
    """Serve one parent."""
    tune_allocator()
    session = Session()
    commands = (session.prepare, session.convert, session.load, session.free)
    serve({each.__name__: each for each in (*commands, session.agree, session.infer, session.train)})


if __name__ == "__main__":
    main()
