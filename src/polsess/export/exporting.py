"""Exporting a network: a graph in a precision, its metadata, its checks, and the file, or an error."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch

from polsess.audio import Samples
from polsess.checkpoints import load_model
from polsess.checkpoints.card import model_card
from polsess.dependencies import require
from polsess.export.checks import LARGEST_ERROR, LARGEST_LOSS_DB, Checks, Run, compare
from polsess.export.quantisation import quantise_weights
from polsess.export.sherpa import compare_sherpa, trace_sherpa
from polsess.export.streams import LARGEST_ERROR as LARGEST_STREAM_ERROR
from polsess.export.streams import compare_stream, trace_stream
from polsess.export.tracing import OPSET, Exported, save_program, trace_onnx, trace_program
from polsess.files import atomic_path, check_target
from polsess.models import ActivityDetector, SeparationModel
from polsess.models.network import Network
from polsess.models.streaming import check_streams
from polsess.onnx_files import create_session, run_session

Target = Literal["onnx", "onnx-stream", "sherpa-onnx", "torch-export"]
Precision = Literal["float32", "float16", "int8"]
WHOLE = ("onnx", "torch-export")
"""Exports that take whole sounds."""
FORMAT = "1"
"""Of the metadata."""
_KEPT_IN_FLOAT32 = ["LSTM", "GRU", "RNN", "Resize", "CumSum", "Loop"]
"""Operators that have no form in float16 on processors."""


class ExportError(ValueError):
    """A network has no such export, or the export is too far from it; the message says which and why."""


def export_model(
    source: str | Path,
    path: Path,
    *,
    to: Target = "onnx",
    precision: Precision = "float32",
    accept: bool = False,
) -> Checks:
    """Write a network for another runtime, after its outputs were compared with the network's own.

    Args:
        source: A folder, a file or a name, as for ``load_model``; networks of every kind.
        path: The file.
        to: ``"onnx"``; ``"onnx-stream"`` for a step of a causal network whose state goes in and comes out;
            ``"sherpa-onnx"`` for the same of GTCRN as that toolkit loads it; or ``"torch-export"`` for a
            program that ``torch.export.load`` reads.
        precision: Of the weights; anything but float32 is for ONNX.
        accept: Whether an export in float16 or int8 that loses more than 0.3 dB of SI-SNR is written all the
            same.

    Returns:
        What was compared.

    Raises:
        CheckpointError: If the network cannot be loaded.
        ExportError: If it has no such export, the export is too far from it, or the settings contradict each
            other.
        ModuleNotFoundError: If onnx, onnxscript or onnxruntime is not installed.
        OSError: If the file cannot be written.
    """
    if to not in get_args(Target) or precision not in get_args(Precision):
        raise ExportError(f"export: expected one of {get_args(Target)} and {get_args(Precision)}.")
    if to != "onnx" and precision != "float32":
        raise ExportError(f"--precision {precision}: {to} is float32; use --to onnx.")
    check_accept(precision, accept)
    check_target(path)
    network = load_model(source, kind=Network)
    return export_network(network, str(source), path, to=to, precision=precision, accept=accept)


def check_accept(precision: Precision, accept: bool) -> None:
    """Refuse to accept losses where none are.

    Raises:
        ExportError: If it says that float32 may lose SI-SNR.
    """
    if accept and precision == "float32":
        raise ExportError(
            "--accept: float32 loses nothing that could be accepted; leave it out, or choose --precision "
            "float16 or int8."
        )


def export_network(
    network: Network,
    name: str,
    path: Path,
    *,
    to: Target = "onnx",
    precision: Precision = "float32",
    accept: bool = False,
) -> Checks:
    """Write a network that is loaded already, as ``export_model`` does, whose settings have to be right.

    Args:
        network: In evaluation mode; its weights need no gradients any more.
        name: Of the network, for messages.
        path: The file.
        to: See ``export_model``, as for the next two.
        precision: Of the weights.
        accept: Whether a loss of SI-SNR is accepted.

    Returns:
        What was compared.

    Raises:
        ExportError: If the network has no such export, or the export is too far from it.
        ModuleNotFoundError: If onnx, onnxscript or onnxruntime is not installed.
        OSError: If the file cannot be written.
    """
    network.requires_grad_(False)
    if to == "onnx":
        content, checks = make_onnx(network, precision)
    elif to == "torch-export":
        content, checks = make_program(network)
    else:
        content, checks = make_stream(network, to)
    _judge(checks, precision, accept, name, LARGEST_ERROR if to in WHOLE else LARGEST_STREAM_ERROR)
    metadata = describe(network, precision) | {"checks": json.dumps(checks.as_data())}
    with atomic_path(path) as temporary:
        temporary.write_bytes(content(metadata))
    return checks


def _judge(checks: Checks, precision: Precision, accept: bool, name: str, largest: float) -> None:
    if precision == "float32" and checks.largest_error > largest:
        worst = max(checks.of, key=lambda each: each.largest_error)
        raise ExportError(
            f"{name}: not written: on {worst.what} the export differs from the network by "
            f"{worst.largest_error:.2g}; at most {largest:g} is allowed."
        )
    loss = checks.si_snr_loss_db or 0.0
    if loss > LARGEST_LOSS_DB and not accept:
        raise ExportError(
            f"{name}: not written: {precision} loses {loss:.2f} dB of SI-SNR on recorded speech (fidelity "
            f"{checks.fidelity_db:.0f} dB), more than {LARGEST_LOSS_DB:g}; choose a higher precision, or "
            "--accept."
        )


def describe(network: Network, precision: Precision) -> dict[str, str]:
    """The metadata of an exported network, without its checks."""
    data: dict[str, Any] = {
        "polsess_format": FORMAT,
        "kind": network.kind,
        "model_type": network.model_type,
        "sample_rate": network.sample_rate,
        "precision": precision,
        "opset": OPSET,
        "config": network.config.model_dump_json(),
        "card": model_card(network, task=None, license_name=None, metrics={}),
    }
    if isinstance(network, SeparationModel):
        names = ["speech"] if network.output_sources == 1 else []
        names = names or [f"speaker{number + 1}" for number in range(network.output_sources)]
        data |= {"num_sources": network.output_sources, "names": json.dumps(names)}
        data |= {"minimum_samples": network.minimum_samples}
    if isinstance(network, ActivityDetector):
        data |= {"hop_seconds": repr(network.hop_seconds)}
    return {key: str(value) for key, value in data.items()}


def reference_of(network: Network) -> Run:
    """The network itself, as a function of arrays."""
    module = Exported(network).eval()

    def run(samples: Samples) -> Samples:
        with torch.inference_mode():
            output: Samples = module(torch.from_numpy(samples)).float().numpy()
        return output

    return run


def make_onnx(network: Network, precision: Precision, graph: bytes | None = None) -> tuple[Any, Checks]:
    """An ONNX file as a function of its metadata, and how near it is to the network.

    Args:
        network: In evaluation mode.
        precision: Of the weights.
        graph: Of the network, where it was traced before.

    Raises:
        ExportError: If the network cannot be traced, or the graph fails where the network does not.
    """
    require("onnxscript", "Exporting to ONNX")
    where = Path(f"{network.model_type}.onnx")
    try:
        content = _in_precision(graph or trace_onnx(network), precision)
        session = create_session(content, where, "Exporting to ONNX")
        checks = compare(network, reference_of(network), lambda samples: run_session(session, samples, where))
    except (ValueError, TypeError, RuntimeError, NotImplementedError) as error:
        raise ExportError(
            f"{network.model_type}: has no ONNX form in {precision}: {_line(error)}."
        ) from error

    return partial(_with_metadata, content), checks


def _with_metadata(content: bytes, metadata: dict[str, str]) -> bytes:
    onnx: Any = require("onnx", "Exporting to ONNX")
    model = onnx.load_from_string(content)
    model.producer_name = "polsess"
    onnx.helper.set_model_props(model, metadata)
    finished: bytes = model.SerializeToString()
    return finished


def make_stream(network: Network, to: Target) -> tuple[Any, Checks]:
    """An ONNX file of a step with explicit state as a function of its metadata, and how near it is.

    Args:
        network: In evaluation mode.
        to: ``"onnx-stream"`` or ``"sherpa-onnx"``.

    Raises:
        ExportError: If the network cannot stream or be traced, or the graph fails where the network does not.
    """
    require("onnxscript", "Exporting to ONNX")
    try:
        if not isinstance(network, SeparationModel):
            raise ValueError(f"a {network.kind} does not stream")
        model = check_streams(network).for_graphs()
        content, facts = trace_sherpa(model) if to == "sherpa-onnx" else trace_stream(model)
        checks = compare_sherpa(model, content) if to == "sherpa-onnx" else compare_stream(model, content)
    except (ValueError, TypeError, RuntimeError, NotImplementedError) as error:
        raise ExportError(f"{network.model_type}: not exported to {to}: {_line(error)}.") from error
    kind = {"kind": f"stream of a {network.kind}"}
    return lambda metadata: _with_metadata(content, metadata | kind | facts), checks


def _in_precision(content: bytes, precision: Precision) -> bytes:
    if precision == "float32":
        return content
    onnx: Any = require("onnx", "Exporting to ONNX")
    require("onnxruntime", "Exporting to ONNX")
    if precision == "float16":
        return _in_float16(content)
    model = onnx.load_from_string(content)
    quantise_weights(model)
    rounded: bytes = model.SerializeToString()
    return rounded


def _in_float16(content: bytes) -> bytes:
    """A graph with 16-bit numbers in most operators, in more of them where onnxruntime bears it.

    Raises:
        ValueError: If onnxruntime crashes on every one.
    """
    onnx: Any = require("onnx", "Exporting to ONNX")
    from onnxruntime.transformers.float16 import convert_float_to_float16

    for kept in (_KEPT_IN_FLOAT32, [*_KEPT_IN_FLOAT32, "Transpose"]):
        model = convert_float_to_float16(
            onnx.load_from_string(content), keep_io_types=True, op_block_list=kept
        )
        half: bytes = model.SerializeToString()
        if _survives(half):
            return half
    raise ValueError("onnxruntime crashes on it; choose another precision")


def _survives(content: bytes) -> bool:
    """Open a file in another process: onnxruntime ends with a fault on some graphs in float16."""
    opens = "import onnxruntime, sys; onnxruntime.InferenceSession(sys.argv[1])"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        path.write_bytes(content)
        done = subprocess.run([sys.executable, "-c", opens, str(path)], capture_output=True, check=False)  # noqa: S603 - our own program
    return 0 <= done.returncode <= 128


def make_program(network: Network) -> tuple[Any, Checks]:
    """A program of ``torch.export`` as a function of its metadata, and how near it is to the network.

    Raises:
        ExportError: If the network cannot be traced, or the program fails where the network does not.
    """
    try:
        program = trace_program(network)
        module = program.module()

        def run(samples: Samples) -> Samples:
            with torch.no_grad():
                return np.asarray(module(torch.from_numpy(samples)).numpy(), np.float32)

        checks = compare(network, reference_of(network), run)
    except Exception as error:  # torch.export has errors of many kinds
        raise ExportError(f"{network.model_type}: has no program of torch.export: {_line(error)}.") from error

    def finish(metadata: dict[str, str]) -> bytes:
        try:
            return save_program(program, metadata)
        except Exception as error:  # there are operators that run and have no form in a file
            raise ExportError(
                f"{network.model_type}: has no program of torch.export: {_line(error)}."
            ) from error

    return finish, checks


def _line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0].rstrip(".")[:300]
