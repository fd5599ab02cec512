"""Networks in ONNX files, run by onnxruntime on one thread of the CPU.

ONNX is a graph of known operators, unlike TorchScript or a pickle: nothing in a file is executed but these.
The file is read once and bounded, so that what was checked is what runs; weights in other files, which a
graph may name, are refused.
"""

from __future__ import annotations

import os
import re
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polsess.config_error import ConfigError
from polsess.dependencies import require

MAX_BYTES = 1 << 30
_ORIGIN = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : (/\S+:\d+ .*?\) (const )?(?=[A-Z]))?")
_MAX_DIMENSIONS = 8192


def is_onnx(source: str | Path) -> bool:
    """Whether a source of weights names an ONNX file."""
    return Path(source).suffix.lower() == ".onnx"


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
    # Where weights in other files would lie; by default that is the working folder.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
    try:  # of the bytes that were checked, not of the path
        return runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own errors share no base of their own
        raise ConfigError(f"{path}: not usable as ONNX: {first_line(error)}.") from None


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


class EmbedderFile:
    """A speaker embedder of any make: one input of samples ``[1, T]``, a first output ``[1, D]``.

    It is tried on a second of noise when it is opened.

    Args:
        path: The file.
        sample_rate: In Hz; None for the ``sample_rate`` in its metadata.

    Raises:
        FileNotFoundError: If there is no such file.
        ConfigError: If it does not fit.
        ModuleNotFoundError: If onnxruntime is not installed.
    """

    def __init__(self, path: Path, sample_rate: int | None = None) -> None:
        self.path = path
        self._session = create_session(read_onnx(path), path, "A speaker embedder in an ONNX file")
        stated = self._session.get_modelmeta().custom_metadata_map.get("sample_rate", "")
        if sample_rate is None and not (
            stated.isascii() and stated.isdigit() and len(stated) < 7 and int(stated)
        ):
            raise ConfigError(
                f"{path}: its metadata has no sample_rate in Hz; write it there, or give sample_rate in "
                "Python."
            )
        self.sample_rate = sample_rate or int(stated)
        check_waveform_input(self._session, path)
        noise = np.random.default_rng(0).normal(0.0, 0.1, self.sample_rate).astype(np.float32)
        self.dimensions = self.embed(noise[None]).shape[1]

    def embed(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """The embeddings ``[B, D]``, of unit length, of samples ``[B, T]``.

        Raises:
            ConfigError: If the network fails on them, or gives anything else.
        """
        rows = np.concatenate([self._embed_one(row[None]) for row in samples])
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        return np.asarray(rows / np.maximum(lengths, 1e-12), np.float32)

    def _embed_one(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        output = run_session(self._session, samples, self.path)
        if output.ndim != 2 or len(output) != 1 or not 1 <= output.shape[1] <= _MAX_DIMENSIONS:
            raise ConfigError(f"{self.path}: expected an embedding [1, D], got {list(output.shape)}.")
        if not np.isfinite(output).all():
            raise ConfigError(f"{self.path}: gives values that are not all finite numbers.")
        return output


def first_line(error: Exception) -> str:
    """The first line of an error of onnxruntime, without its codes and places in its source."""
    line = (str(error).splitlines() or [type(error).__name__])[0]
    reason = _ORIGIN.sub("", line).strip()
    return textwrap.shorten((reason or line).rstrip("."), 300, placeholder=" ...")
