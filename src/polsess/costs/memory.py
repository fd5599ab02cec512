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

_LIBRARIES, _TRAINING_LIBRARIES = 40 * 2**20, 120 * 2**20
"""Bytes of code and of caches that PyTorch's libraries load in a first run, without and with an optimiser."""
_HOLES = 1.15
"""What glibc's heap takes for the blocks of a training step, which live differently long, over their sum."""
_KEPT_PER_STEP = 15.3
"""Numbers that oneDNN keeps per step, sequence and hidden unit of an LSTM in training, as measured."""
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

    Every allocation of a rehearsal is followed until it dies.

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
    if not training:
        return MemoryPrediction(weights_bytes(model), living.peak, 0, _LIBRARIES)
    trained = sum(each.numel() * each.element_size() for each in model.parameters() if each.requires_grad)
    activations, moments = round(_HOLES * living.peak), _OPTIMIZER_MOMENTS * trained
    return MemoryPrediction(weights_bytes(model), activations, moments, _TRAINING_LIBRARIES)


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
                untold = _recurrent_workspace(operation) if tensor.dtype == torch.uint8 else 0
                self._follow(tensor, untold)
        self.peak = max(self.peak, self.now + _workspace(operation))

    def _follow(self, tensor: Tensor, untold: int) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes() + untold

        def died(_: object) -> None:
            self.now -= size
            del self._known[key]

        self._known[key] = weakref.ref(storage, died)
        self.now += size


def _workspace(operation: Operation) -> int:
    """Bytes that an operation takes while it runs, as far as oneDNN is known to.

    Recurrent layers keep the gates of all steps; convolutions copy both sides into layouts of their own, and
    measured as much again as the input.
    """
    if operation.function is torch.ops.aten.mkldnn_rnn_layer.default:
        return 4 * _bytes_of_steps(operation)
    if operation.function is torch.ops.aten.convolution.default:
        inputs, output = operation.args[0], operation.output
        return int(inputs.element_size() * (2 * inputs.numel() + output.numel()))
    return 0


def _recurrent_workspace(operation: Operation) -> int:
    """Bytes that oneDNN's recurrent layer keeps for its backward pass; a rehearsal gives an empty tensor."""
    if operation.function is not torch.ops.aten.mkldnn_rnn_layer.default:
        return 0
    return round(_KEPT_PER_STEP * _bytes_of_steps(operation))


def _bytes_of_steps(operation: Operation) -> int:
    """Of one number per step, sequence and hidden unit."""
    steps, hidden = operation.args[0], operation.args[10]
    return int(steps.shape[0] * steps.shape[1] * hidden * steps.element_size())


def _tensors(values: Any) -> list[Tensor]:
    return [each for each in _pytree.tree_leaves(values) if isinstance(each, Tensor)]


def _key(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
