"""Networks in ONNX files, run by onnxruntime on one thread of the CPU.

ONNX is a graph of known operators, unlike TorchScript or a pickle: nothing in a file is executed but these.
The file is read once and bounded, so that what was checked is what runs; weights in other files, which a
graph may name by any path, are not followed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polsess.config_error import ConfigError
from polsess.dependencies import require

MAX_BYTES = 1 << 30


def read_onnx(path: Path) -> bytes:
    """The content of an ONNX file.

    Raises:
        FileNotFoundError: If there is no such file.
        ConfigError: If it is larger than 1 GiB.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file.")
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_BYTES >> 30} GiB, which no network here is.")
    return content


def create_session(content: bytes, path: Path, purpose: str) -> Any:
    """An onnxruntime session.

    Args:
        content: Of the file.
        path: The file, for messages.
        purpose: What needs onnxruntime, for the message where it is missing.

    Raises:
        ConfigError: If it is no ONNX file.
        ModuleNotFoundError: If onnxruntime is not installed.
    """
    runtime: Any = require("onnxruntime", purpose)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:  # of the bytes that were checked, not of the path
        return runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own errors share no base of their own
        raise ConfigError(f"{path}: not usable as ONNX ({first_line(error)}).") from None


def check_waveform_input(session: Any, path: Path) -> str:
    """See that a network takes one sound of any length.

    Args:
        session: The network.
        path: Its file, for messages.

    Returns:
        The name of its input.

    Raises:
        ConfigError: If it takes anything else.
    """
    inputs = session.get_inputs()
    if len(inputs) != 1 or inputs[0].type != "tensor(float)" or len(inputs[0].shape) != 2:
        found = ", ".join(f"{each.name} {each.type} {each.shape}" for each in inputs)
        raise ConfigError(f"{path}: expected one input of float32 samples [1, T], it takes {found}.")
    return str(inputs[0].name)


def run_session(session: Any, samples: NDArray[np.float32], path: Path) -> NDArray[np.float32]:
    """The first output of a network for samples ``[B, T]``.

    Args:
        session: The network, with one input.
        samples: At its rate.
        path: Its file, for messages.

    Raises:
        ConfigError: If it fails on them, or its output is not of numbers.
        MemoryError: If the memory does not suffice.
    """
    name = session.get_inputs()[0].name
    try:
        output = np.asarray(session.run(None, {name: samples})[0])
    except Exception as error:  # onnxruntime's own errors share no base of their own
        if "alloc" in str(error).lower():
            raise MemoryError(first_line(error)) from None
        raise ConfigError(f"{path}: fails on {samples.shape[-1]} samples ({first_line(error)}).") from None
    if output.dtype.kind != "f":
        raise ConfigError(f"{path}: gives {output.dtype}, not floating-point numbers.")
    return output.astype(np.float32, copy=False)


def first_line(error: Exception) -> str:
    """The first line of an error of onnxruntime."""
    return (str(error).splitlines() or [type(error).__name__])[0]
