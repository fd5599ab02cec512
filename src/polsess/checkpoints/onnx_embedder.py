"""A speaker embedder in an ONNX file, in place of the one of the package.

The contract of a file: one input of float32 samples ``[1, T]`` of any length, a first output ``[1, D]``, and
the rate of the samples as ``sample_rate`` in its metadata, unless the caller gives it.

Shapes: B batch, T samples, D dimensions.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polsess.checkpoints.loading import load_model
from polsess.checkpoints.unpickling import CheckpointError
from polsess.models import NetworkConfig, SpeakerEmbedder
from polsess.onnx_files import check_waveform_input, create_session, first_line, read_onnx
from polsess.schema import ConfigError, parse

_MAX_DIMENSIONS = 8192


def load_embedder(source: str | Path, *, sample_rate: int | None = None) -> SpeakerEmbedder:
    """Load a speaker embedder: an ONNX file, or anything that ``load_model`` reads.

    Args:
        source: A file that ends in ``.onnx``; else a folder, file or name as for ``load_model``.
        sample_rate: In Hz, of an ONNX file whose metadata has none.

    Raises:
        CheckpointError: If the file is not usable, or the network is of another kind.
        ModuleNotFoundError: If onnxruntime is not installed.
    """
    if Path(source).suffix.lower() == ".onnx":
        try:
            return OnnxEmbedder(Path(source), sample_rate)
        except (ConfigError, OSError) as error:
            raise CheckpointError(str(error)) from None
    if sample_rate is not None:
        raise CheckpointError(f"{source}: sample_rate is for ONNX files; this network states its own.")
    return load_model(source, kind=SpeakerEmbedder)


class OnnxEmbedder(SpeakerEmbedder):
    """A network in an ONNX file, tried on a second of noise when it is opened.

    Args:
        path: The file.
        sample_rate: In Hz; None for that of the file's metadata.

    Raises:
        FileNotFoundError: If there is no such file.
        ConfigError: If it does not fit the contract.
        ModuleNotFoundError: If onnxruntime is not installed.
    """

    def __init__(self, path: Path, sample_rate: int | None = None) -> None:
        session = create_session(read_onnx(path), path, "A speaker embedder in an ONNX file")
        stated = session.get_modelmeta().custom_metadata_map.get("sample_rate")
        if sample_rate is None and (stated is None or not stated.isdigit()):
            raise ConfigError(
                f"{path}: its metadata has no sample_rate; write it there, or give sample_rate in Python."
            )
        rate = sample_rate or int(str(stated))
        super().__init__(parse(NetworkConfig, {"model_type": "onnx", "sample_rate": rate}, str(path)))
        self._path, self._session, self._input = path, session, check_waveform_input(session, path)
        noise = np.random.default_rng(0).normal(0.0, 0.1, rate).astype(np.float32)
        self._dimensions = len(self._run(noise))

    @property
    def dimensions(self) -> int:
        """D, of the embedding."""
        return self._dimensions

    def embed_speech(self, speech: Tensor) -> Tensor:
        rows = [self._run(row) for row in speech.detach().cpu().float().numpy()]
        return torch.from_numpy(np.stack(rows)).to(speech.device)

    def _run(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """The embedding ``[D]`` of ``[T]``."""
        try:
            output: Any = self._session.run(None, {self._input: samples[None]})[0]
        except Exception as error:  # onnxruntime's own errors share no base of their own
            raise ConfigError(
                f"{self._path}: fails on {len(samples)} samples ({first_line(error)})."
            ) from None
        output = np.asarray(output)
        if output.ndim != 2 or len(output) != 1 or not 1 <= output.shape[1] <= _MAX_DIMENSIONS:
            raise ConfigError(f"{self._path}: expected an embedding [1, D], got {list(output.shape)}.")
        if output.dtype.kind != "f" or not np.isfinite(output).all():
            raise ConfigError(f"{self._path}: gives {output.dtype} values that are not all finite numbers.")
        return output[0].astype(np.float32)
