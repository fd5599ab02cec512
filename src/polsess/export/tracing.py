"""Networks as graphs: ONNX by tracing with real arithmetic, and programs of ``torch.export``.

Shapes: B batch, C sources, T samples, L frames, D dimensions.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from polsess.dependencies import require
from polsess.export.real_arithmetic import real_arithmetic
from polsess.models import ActivityDetector, SeparationModel
from polsess.models.network import Network

OPSET = 18
INPUT, OUTPUT = "samples", "estimates"
_TRACED_SAMPLES = 8123
"""Odd, so that whatever a network pads, it pads in the trace too."""


class Exported(nn.Module):
    """A network with one output of one shape.

    A separation model gives estimates ``[B, C, T]``, a detector probabilities ``[B, L, 3]``, an embedder unit
    vectors ``[B, D]``, all of samples ``[B, T]``.

    Args:
        network: Any.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, samples: Tensor) -> Tensor:
        """Map ``[B, T]``."""
        output: Tensor = self.network(samples)
        if isinstance(self.network, SeparationModel) and self.network.output_sources == 1:
            return output.unsqueeze(1)
        return output.softmax(-1) if isinstance(self.network, ActivityDetector) else output


class _Traced(Exported):
    def forward(self, samples: Tensor) -> Tensor:
        with real_arithmetic():
            return super().forward(samples)


def example(network: Network) -> Tensor:
    """Noise ``[2, T]`` with which a network is traced."""
    generator = torch.Generator().manual_seed(0)
    length = max(_TRACED_SAMPLES, network.sample_rate | 1)
    return 0.1 * torch.randn(2, length, generator=generator)


def trace_onnx(network: Network) -> bytes:
    """A network as the content of an ONNX file, for any batch and any length.

    The exporter is the one that traces; it makes one LSTM operator of an LSTM, for any length.
    """
    output_axes = {0: "batch"}
    if isinstance(network, SeparationModel):
        output_axes[2] = "samples"
    elif isinstance(network, ActivityDetector):
        output_axes[1] = "frames"
    axes = {INPUT: {0: "batch", 1: "samples"}, OUTPUT: output_axes}
    return trace(_Traced(network), [example(network)], [INPUT], [OUTPUT], axes)


def trace(
    module: nn.Module,
    inputs: Sequence[Tensor],
    input_names: Sequence[str],
    output_names: Sequence[str],
    dynamic_axes: Mapping[str, Mapping[int, str]],
) -> bytes:
    """A module as the content of an ONNX file.

    Args:
        module: Any; it computes with ``real_arithmetic``.
        inputs: Examples.
        input_names: Of these.
        output_names: Of what comes out.
        dynamic_axes: Dimensions of inputs and outputs that are free, by name.
    """
    onnx: Any = require("onnx", "Exporting to ONNX")
    with tempfile.TemporaryDirectory() as folder, _silence(), torch.no_grad():
        path = Path(folder) / "network.onnx"
        torch.onnx.export(
            module.eval(),
            tuple(inputs),
            str(path),
            dynamo=False,
            opset_version=OPSET,
            keep_initializers_as_inputs=True,  # else weights that are equal, as fresh ones, may get lost
            input_names=list(input_names),
            output_names=list(output_names),
            dynamic_axes={name: dict(axes) for name, axes in dynamic_axes.items()},
        )
        graph = onnx.load(path)
    for surplus in [each for each in graph.graph.input if each.name not in input_names]:
        graph.graph.input.remove(surplus)
    _store_once(graph.graph)
    content: bytes = graph.SerializeToString()
    return content


def _store_once(graph: Any) -> None:
    """Keep one copy of numbers that are equal: a layer that runs twice is traced with two."""
    first: dict[tuple[Any, ...], str] = {}
    names: dict[str, str] = {}
    constants = [node for node in graph.node if node.op_type == "Constant"]
    holders = [(tensor.name, tensor, graph.initializer, tensor) for tensor in graph.initializer]
    holders += [(node.output[0], node.attribute[0].t, graph.node, node) for node in constants]
    for name, tensor, place, holder in holders:
        content = (place is graph.node, tensor.data_type, *tensor.dims, tensor.raw_data)
        names[name] = first.setdefault(content, name) if tensor.raw_data else name
        if names[name] != name:
            place.remove(holder)
    _rename_inputs(graph, names)


def _rename_inputs(graph: Any, names: Mapping[str, str]) -> None:
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                _rename_inputs(inner, names)


def trace_program(network: Network) -> torch.export.ExportedProgram:
    """A network as a program of ``torch.export``, for any batch and any length.

    The tracer asserts every comparison of sizes that it met, most of them about memory layouts that make no
    difference; a batch of one would fail. They are left out, as ONNX files have none; the checks tell.
    """
    dynamic: Any = torch.export.Dim.DYNAMIC
    shortest = network.minimum_samples if isinstance(network, SeparationModel) else 1
    with _silence(), torch.enable_grad(), _recurrent_loops():  # a change of this mode has no form in a file
        program = torch.export.export(
            _Traced(network).eval(),
            (example(network),),
            dynamic_shapes=({0: dynamic(min=1), 1: dynamic(min=shortest)},),
            prefer_deferred_runtime_asserts_over_guards=True,  # else some paddings fix the length
        )
    _drop_assertions(program.graph_module)
    return program


def _drop_assertions(module: torch.fx.GraphModule) -> None:
    assertion = torch.ops.aten._assert_scalar.default
    for part in module.modules():
        if isinstance(part, torch.fx.GraphModule):
            for node in part.graph.find_nodes(op="call_function", target=assertion):
                part.graph.erase_node(node)
            part.graph.eliminate_dead_code()
            part.recompile()


def save_program(program: torch.export.ExportedProgram, metadata: Mapping[str, str]) -> bytes:
    """The content of a file with the program, and the metadata in its extra file ``metadata.json``."""
    with tempfile.TemporaryDirectory() as folder, _silence():
        path = Path(folder) / "network.pt2"
        torch.export.save(program, path, extra_files={"metadata.json": json.dumps(dict(metadata))})
        return path.read_bytes()


@contextlib.contextmanager
def _recurrent_loops() -> Iterator[None]:
    """LSTM and GRU layers as loops of any length, where else they are unrolled for that of the example."""
    from torch.export import _patches  # not in every torch that the rest runs with

    with (
        _patches.register_lstm_while_loop_decomposition(),
        _patches.register_gru_while_loop_decomposition(),
    ):
        yield


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Tracers warn of every Python number; whether one matters is found by the checks."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
