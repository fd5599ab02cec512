"""A speaker embedder in an ONNX file, in place of the one of the package.

The contract of a file: one input of float32 samples ``[1, T]`` of any length, a first output ``[1, D]``, and
the rate of the samples as ``sample_rate`` in its metadata, unless the caller gives it.

Shapes: B batch, T samples, D dimensions.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from polsess.checkpoints.loading import load_model
from polsess.checkpoints.unpickling import CheckpointError
from polsess.models import NetworkConfig, SpeakerEmbedder
from polsess.onnx_files import EmbedderFile, is_onnx
from polsess.schema import ConfigError, parse


def load_embedder(source: str | Path, *, sample_rate: int | None = None) -> SpeakerEmbedder:
    """Load a speaker embedder: an ONNX file, or anything that ``load_model`` reads.

    Args:
        source: A file that ends in ``.onnx``; else a folder, file or name as for ``load_model``.
        sample_rate: In Hz, of an ONNX file whose metadata has none.

    Raises:
        CheckpointError: If the file is not usable, or the network is of another kind.
        ModuleNotFoundError: If onnxruntime is not installed.
    """
    if is_onnx(source):
        try:
            return OnnxEmbedder(Path(source), sample_rate)
        except (ConfigError, OSError) as error:
            raise CheckpointError(str(error)) from None
    if sample_rate is not None:
        raise CheckpointError(f"{source}: sample_rate is for ONNX files; this network states its own.")
    return load_model(source, kind=SpeakerEmbedder)


class OnnxEmbedder(SpeakerEmbedder):
    """A network in an ONNX file, see ``polsess.onnx_files.EmbedderFile``.

    Args:
        path: The file.
        sample_rate: In Hz; None for that of the file's metadata.

    Raises:
        FileNotFoundError: If there is no such file.
        ConfigError: If it does not fit the contract.
        ModuleNotFoundError: If onnxruntime is not installed.
    """

    def __init__(self, path: Path, sample_rate: int | None = None) -> None:
        file = EmbedderFile(path, sample_rate)
        rate = file.sample_rate
        super().__init__(parse(NetworkConfig, {"model_type": "onnx", "sample_rate": rate}, str(path)))
        self._file = file

    @property
    def dimensions(self) -> int:
        """D, of the embedding."""
        return self._file.dimensions

    def embed_speech(self, speech: Tensor) -> Tensor:
        return torch.from_numpy(self._file.embed(speech.detach().cpu().float().numpy())).to(speech.device)
