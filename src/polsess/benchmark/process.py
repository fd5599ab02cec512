"""The process in which the benchmark measures a model: ``python -m polsess.benchmark.process``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from polsess.checkpoints import load_model, save_model
from polsess.checkpoints.native import WEIGHTS
from polsess.costs import MAC_SECONDS, count_macs, process
from polsess.inference import StreamingSeparator
from polsess.measurement import measure
from polsess.models import SeparationModel, create_model
from polsess.models.streaming import check_streams
from polsess.workers import Answer

_WARM_UP_SECONDS = 0.5


class Session(process.Session):
    """A model in a folder and the requests that it answers."""

    def prepare(self, request: Answer) -> Answer:
        """Write a model of a configuration or a source into ``folder`` and return its facts."""
        torch.manual_seed(0)
        source = request.get("source")
        model = load_model(source) if source else create_model(request["config"]).eval()
        save_model(model, request["folder"])
        return _facts(model, Path(request["folder"]))

    def open_model(self, request: Answer) -> SeparationModel:
        """Load the model of a folder."""
        return load_model(request["folder"], device=request["device"])

    def stream(self, request: Answer) -> Answer:
        """Measure ``passes`` pushes of ``seconds``, after a stream that warms up."""
        bench = self.loaded()
        assert isinstance(bench.network, SeparationModel)
        stream = StreamingSeparator(bench.network, device=str(bench.device))
        stream.push(bench.mixture(_WARM_UP_SECONDS, 1)[0])
        stream.reset()
        sound = bench.mixture(request["passes"] * request["seconds"], 1)[0].cpu()
        pieces: Iterator[torch.Tensor] = iter(sound.tensor_split(request["passes"]))
        return asdict(measure(lambda: stream.push(next(pieces)), bench.device, request["passes"]))

    def commands(self) -> list[Callable[[Any], Answer]]:
        return [self.prepare, self.stream, *super().commands()]


def _stream_facts(model: SeparationModel) -> Answer:
    try:
        return {"stream_latency_samples": check_streams(model).stream_latency}
    except ValueError as error:
        return {"stream_obstacle": str(error).rstrip(".")}


def _facts(model: SeparationModel, folder: Path) -> Answer:
    macs = count_macs(model)
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
        **_stream_facts(model),
    }


if __name__ == "__main__":
    process.serve_session(Session())
