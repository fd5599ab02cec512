"""Causal networks as ONNX files whose memory is explicit: states go in and come out with every push.

Shapes: C sources, n samples.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from polsess.audio import Samples
from polsess.dependencies import require
from polsess.export.checks import Checks, Run, compare_streams
from polsess.export.real_arithmetic import real_arithmetic
from polsess.export.tracing import trace
from polsess.inference import StreamingSeparator
from polsess.models.layers.stream import StreamState
from polsess.models.streaming import StreamingModel
from polsess.onnx_files import create_session

LARGEST_ERROR = 1e-5
"""What an exported stream may differ from the network's by."""
SAMPLES, FRAMES, ESTIMATES = "samples", "num_real", "estimates"
_NEXT = "next."
"""Before the name of a state that comes out."""
_TRACED_STEPS = 3
_PUSHES = (0.01, 0.0371, 0.25)
"""Seconds of the pushes that are compared, in turn."""


class _Step(nn.Module):
    def __init__(self, model: StreamingModel, names: list[str]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, samples: Tensor, frames: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        with real_arithmetic():
            state = dict(zip(self.names, values, strict=True))
            estimates, following = self.model.stream(samples, state, frames)
        return (estimates, *(following[name] for name in self.names))


def trace_stream(model: StreamingModel) -> tuple[bytes, dict[str, str]]:
    """One step of a stream as the content of an ONNX file, and what a reader must know to run it.

    Inputs are ``samples`` ``[1, n]`` with n a multiple of ``stream_step``, ``num_real`` (how many frames of
    the step are of the sound, which matters at its end; all where it is left out), and every state by its
    name; a state that is left out is that of the beginning. Outputs are ``estimates``
    ``[1, C, n]`` and every state, with ``next.`` before its name.

    Args:
        model: Whose configuration can stream.
    """
    onnx: Any = require("onnx", "Exporting to ONNX")
    head = torch.zeros(1, model.stream_head)
    begin = model.begin_stream(head)
    names = sorted(begin)
    past = _of_the_head(model, begin)
    inputs = [SAMPLES, FRAMES, *names]
    outputs = [ESTIMATES, *(_NEXT + name for name in names)]
    sound = 0.1 * torch.randn(
        1, _TRACED_STEPS * model.stream_step, generator=torch.Generator().manual_seed(0)
    )
    beyond = torch.tensor(1 << 30)
    content = trace(
        _Step(model, names),
        [sound, beyond, *(begin[name] for name in names)],
        inputs,
        outputs,
        {SAMPLES: {1: "n"}, ESTIMATES: {2: "n"}},
    )
    graph = onnx.load_from_string(content)
    defaults = {FRAMES: beyond} | {name: begin[name] for name in names if name != past}
    for name, value in defaults.items():
        graph.graph.initializer.append(onnx.numpy_helper.from_array(value.numpy(), name))
    mirrored = begin[past].shape[-1] - model.stream_lead
    facts = {
        "states": json.dumps({name: list(begin[name].shape) for name in names}),
        "first_state": past,
        "first_samples": str(model.stream_lead),
        "first_mirrored": str(mirrored),
        "stream_head": str(model.stream_head),
        "stream_lead": str(model.stream_lead),
        "stream_step": str(model.stream_step),
        "stream_delay": str(model.stream_delay),
        "stream_latency": str(model.stream_latency),
    }
    finished: bytes = graph.SerializeToString()
    return finished, facts


def _of_the_head(model: StreamingModel, begin: StreamState) -> str:
    """The name of the state that holds the samples before the first step."""
    marked = model.begin_stream(torch.ones(1, model.stream_head))
    different = [name for name in begin if not torch.equal(begin[name], marked[name])]
    if len(different) > 1:
        raise ValueError(f"{', '.join(different)} depend on the first samples, expected one state to do so")
    return (different or [name for name in begin if name.endswith("past")])[0]


def compare_stream(model: StreamingModel, content: bytes) -> Checks:
    """Run an exported stream push by push beside the network's own.

    Raises:
        ConfigError: If it is not usable.
        ValueError: If it fails, or gives another shape.
    """
    session = create_session(content, Path(f"{model.model_type}.onnx"), "Exporting to ONNX")
    outputs = [each.name for each in session.get_outputs()]

    def step(
        samples: Tensor, state: StreamState, num_real: int | Tensor | None = None
    ) -> tuple[Tensor, StreamState]:
        known: Mapping[str, Tensor] = state | ({} if num_real is None else {FRAMES: torch.tensor(num_real)})
        feeds = {SAMPLES: samples.numpy()} | {name: value.numpy() for name, value in known.items()}
        estimates, *following = map(torch.from_numpy, session.run(None, feeds))
        names = (name.removeprefix(_NEXT) for name in outputs[1:])
        return estimates, dict(zip(names, following, strict=True))

    exported = copy.copy(model)  # which goes on as the session does, and begins as the network
    exported.begin_stream, exported.stream = model.begin_stream, step  # type: ignore[method-assign]
    return compare_streams(model.sample_rate, _pushes(model), _pushes(exported))


def _pushes(model: StreamingModel) -> Run:
    """A stream over a whole sound, in pushes of several sizes, as a function of arrays."""

    def run(samples: Samples) -> Samples:
        stream, place = StreamingSeparator(model), 0
        parts: list[Tensor] = []
        while place < samples.shape[-1]:
            length = round(_PUSHES[len(parts) % len(_PUSHES)] * model.sample_rate)
            parts.append(stream.push(samples[0, place : place + length]))
            place += length
        estimates: Samples = torch.cat([*parts, stream.flush()], -1).numpy()
        return np.ascontiguousarray(estimates[None])

    return run
