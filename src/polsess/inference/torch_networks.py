"""Networks of torch behind arrays: a separation model, a detector and an embedder.

Shapes: B batch, C sources, T samples, L frames, D dimensions.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from polsess.audio import Samples
from polsess.diarization.clustering import Embeddings
from polsess.inference.network import SpeakerCounts
from polsess.inference.side_by_side import Threads
from polsess.models import ActivityDetector, SeparationModel, SpeakerEmbedder
from polsess.precision import name_of, reduced


class TorchEstimator:
    """A separation model; a copy is used where somebody has changed its place, mode or type since.

    Args:
        model: The model.
        device: Where it runs.
        dtype: Of its products.
    """

    def __init__(
        self, model: SeparationModel, device: torch.device, dtype: torch.dtype = torch.float32
    ) -> None:
        self._model, self._device, self._dtype = ready(model, device), device, dtype
        self.model_type, self.place = model.config.model_type, str(device)
        self.precision = name_of(dtype)
        self.sample_rate, self.output_sources = model.sample_rate, model.output_sources

    def estimate(self, mixtures: Samples) -> Samples:
        """Estimates ``[B, C, n]`` of mixtures ``[B, n]``."""
        with torch_defaults(), torch.inference_mode(), reduced(self._device, self._dtype):
            estimates: Samples = self._model(self._batch(mixtures)).float().cpu().numpy()
        return estimates.reshape(len(mixtures), self.output_sources, -1)

    def _batch(self, mixtures: Samples) -> torch.Tensor:
        parameter = next(self._model.parameters(), None)
        dtype = torch.float32 if parameter is None else parameter.dtype
        return torch.from_numpy(np.ascontiguousarray(mixtures)).to(self._device, dtype)


class TorchCountingEstimator(TorchEstimator):
    """A separation model that counts speakers."""

    def estimate_counted(
        self, mixtures: Samples, num_speakers: NDArray[np.int64] | None
    ) -> tuple[Samples, SpeakerCounts]:
        """Estimates ``[B, C, n]`` of mixtures ``[B, n]`` and the counts; see ``CountingEstimator``."""
        numbers = None if num_speakers is None else torch.from_numpy(num_speakers)
        with torch_defaults(), torch.inference_mode(), reduced(self._device, self._dtype):
            estimates, counts = self._model.separate_counted(self._batch(mixtures), numbers)
        assert counts is not None  # such models alone come here
        return estimates.float().cpu().numpy(), SpeakerCounts(
            counts.numbers.cpu().numpy(), counts.probabilities.double().cpu().numpy()
        )


class TorchDetector:
    """An activity detector.

    Args:
        detector: The network.
        device: Where it runs.
    """

    def __init__(self, detector: ActivityDetector, device: torch.device) -> None:
        self._detector, self._device = detector.to(device).eval(), device
        self.sample_rate, self.hop_seconds = detector.sample_rate, detector.hop_seconds

    def detect(self, samples: Samples) -> Samples:
        """Probabilities of nobody, one and several ``[B, L, 3]`` in samples ``[B, T]``."""
        with torch_defaults(), torch.inference_mode():
            logits = self._detector(torch.from_numpy(samples).to(self._device))
            probabilities: Samples = logits.float().softmax(-1).cpu().numpy()
        return probabilities


class TorchEmbedder:
    """A speaker embedder.

    Args:
        embedder: The network.
        device: Where it runs.
    """

    def __init__(self, embedder: SpeakerEmbedder, device: torch.device) -> None:
        self._embedder, self._device = embedder.to(device).eval(), device
        self.sample_rate = embedder.sample_rate

    def embed(self, samples: Samples) -> Embeddings:
        """The embeddings ``[B, D]`` of samples ``[B, T]``."""
        with torch_defaults(), torch.inference_mode():
            embeddings: Embeddings = self._embedder(torch.from_numpy(samples).to(self._device)).cpu().numpy()
        return embeddings


def ready(model: SeparationModel, device: torch.device) -> SeparationModel:
    """The model on the device, in evaluation mode and float32 (or float64): a copy where it is not so.

    Somebody else may have changed it since; that is neither an error nor undone.
    """
    parameters = list(model.parameters())
    places = {parameter.device.type for parameter in parameters} <= {device.type}
    types = {parameter.dtype for parameter in parameters}
    training = any(module.training for module in model.modules())
    if places and not training and (types <= {torch.float32} or types <= {torch.float64}):
        return model
    return copy.deepcopy(model).to(device, torch.float32).eval()


def torch_threads(device: torch.device) -> Threads:
    """The threads of torch, for networks on a CPU; another default type, which all share, allows but one."""
    several = device.type == "cpu" and torch.get_default_dtype() == torch.float32
    return Threads(torch.get_num_threads() if several else 1, _limit)


def _limit(number: int) -> None:
    torch.get_num_threads()  # when a thread first needs to know, it takes over what another has set
    torch.set_num_threads(number)


def usual_batch(model: SeparationModel, device: torch.device) -> int:
    """Pieces that go through a model in one pass where nobody asked for a number."""
    return 8 if device.type == "cuda" else model.cpu_batch


@contextlib.contextmanager
def torch_defaults() -> Iterator[None]:
    """Torch's own default type and device; tensors that a program creates elsewhere may have others."""
    dtype, device = torch.get_default_dtype(), torch.get_default_device()
    if (dtype, device.type) == (torch.float32, "cpu"):
        yield
        return
    torch.set_default_dtype(torch.float32)
    try:
        with torch.device("cpu"):
            yield
    finally:
        torch.set_default_dtype(dtype)
