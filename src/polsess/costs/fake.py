"""Copies of models that have shapes and devices but no memory, so that the largest can be run at once.

On the meta device a copy computes the same sums, quickly. PyTorch's fake tensors are slower, but take the
same branches as real ones (a fake tensor "on the CPU" is on the CPU for all code that asks): what allocations
and operations there will be, only they tell.
"""

from __future__ import annotations

import contextlib
import copy
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from polsess.models import SeparationModel


class FakeModel:
    """A copy of a model without its numbers, and the mode in which it runs.

    Args:
        model: Any model, also one on the meta device; it is not changed.
        device: Where the copy believes to be; ``"meta"`` for nowhere.

    Attributes:
        network: The copy.
    """

    def __init__(self, model: SeparationModel, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        real = self.device.type == "meta"
        self._mode = contextlib.nullcontext() if real else FakeTensorMode(allow_non_fake_inputs=True)
        stand_ins = {id(each): self._without_memory(each) for each in (*model.parameters(), *model.buffers())}
        self.network = copy.deepcopy(model, stand_ins)

    def active(self) -> AbstractContextManager[object]:
        """The block within which fake tensors exist."""
        return self._mode

    def noise(self, batch_size: int, num_samples: int) -> Tensor:
        """A fake mixture ``[B, T]``; within ``active``."""
        return torch.empty(batch_size, num_samples, device=self.device)

    def _without_memory(self, tensor: Tensor) -> Tensor:
        with self._mode:
            empty = torch.empty_strided(
                tensor.size(), tensor.stride(), dtype=tensor.dtype, device=self.device
            )
        if isinstance(tensor, nn.Parameter):
            return nn.Parameter(empty, requires_grad=tensor.requires_grad)
        return empty
