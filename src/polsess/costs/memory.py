"""The memory that a run will take, from a rehearsal on tensors without memory."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree

from polsess.costs.fake import FakeModel
from polsess.costs.passes import add_gradients, infer, samples_of
from polsess.costs.sizes import weights_bytes
from polsess.costs.tracing import Operation, tracing
from polsess.models import SeparationModel

_LIBRARIES = 40 * 2**20
"""Bytes of code and of caches that PyTorch's libraries load in a first run."""
_OPTIMIZER_MOMENTS = 2
"""What Adam and its like keep of every trained number."""


@dataclass(frozen=True)
class MemoryPrediction:
    """Bytes that a run adds to a process.

    Attributes:
        weights: Parameters and buffers.
        activations: The most that was alive at once beside the weights: activations, their gradients, the
            gradients of the weights, and what single operations need while they run.
        optimizer: Moments of the weights in training.
        libraries: What the libraries load on a CPU, whatever the model.
    """

    weights: int
    activations: int
    optimizer: int
    libraries: int

    @property
    def peak(self) -> int:
        """All of it."""
        return self.weights + self.activations + self.optimizer + self.libraries


def predict_memory(
    model: SeparationModel, seconds: float, *, training: bool = False, batch_size: int = 1
) -> MemoryPrediction:
    """Predict the peak of an inference or of a training step, on a CPU.

    Every allocation of a rehearsal is followed until it dies. An allocator may keep more than is alive.

    Args:
        model: Any registered model, also one on the meta device; it is neither run nor changed.
        seconds: Length of each mixture.
        training: Whether gradients are computed, with the moments of an Adam optimiser beside them.
        batch_size: B, mixtures at once.

    Raises:
        ValueError: If there is not one sample.
    """
    num_samples = samples_of(model, seconds)
    fake, living = FakeModel(model), _LivingBytes()
    with fake.active(), tracing(fake.network, living.observe):
        mixture = fake.noise(batch_size, num_samples)
        if training:
            add_gradients(fake.network, mixture)
        else:
            infer(fake.network, mixture)
    trained = sum(each.numel() * each.element_size() for each in model.parameters() if each.requires_grad)
    moments = _OPTIMIZER_MOMENTS * trained if training else 0
    return MemoryPrediction(weights_bytes(model), living.peak, moments, _LIBRARIES)


class _LivingBytes:
    """Follows storages that operations make."""

    def __init__(self) -> None:
        self.now = self.peak = 0
        self._known: dict[int, weakref.ref[Any]] = {}

    def observe(self, operation: Operation) -> None:
        """Add what is new among the outputs of an operation."""
        inputs = {_key(each) for each in _tensors((operation.args, operation.kwargs))}
        for tensor in _tensors(operation.output):
            if _key(tensor) not in self._known and _key(tensor) not in inputs:
                self._follow(tensor)
        self.peak = max(self.peak, self.now + _workspace(operation))

    def _follow(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()

        def died(_: object) -> None:
            self.now -= size
            del self._known[key]

        self._known[key] = weakref.ref(storage, died)
        self.now += size


def _workspace(operation: Operation) -> int:
    """Bytes that an operation takes while it runs, as far as oneDNN is known to.

    Recurrent layers keep the gates of all steps; convolutions copy both sides into layouts of their own.
    """
    if operation.function is torch.ops.aten.mkldnn_rnn_layer.default:
        steps, from_state = operation.args[0], operation.args[2]
        return int(steps.shape[0] * steps.shape[1] * from_state.shape[0] * steps.element_size())
    if operation.function is torch.ops.aten.convolution.default:
        return sum(each.numel() * each.element_size() for each in (operation.args[0], operation.output))
    return 0


def _tensors(values: Any) -> list[Tensor]:
    return [each for each in _pytree.tree_leaves(values) if isinstance(each, Tensor)]


def _key(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
