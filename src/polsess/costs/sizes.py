"""Parameters and bytes of a model."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class ParameterCount:
    """Number of parameters of a model.

    Attributes:
        total: Parameters, shared ones once.
        trainable: Parameters that training changes.
    """

    total: int
    trainable: int


def count_parameters(model: nn.Module) -> ParameterCount:
    """Count parameters; buffers are not among them."""
    sizes = [(each.numel(), each.requires_grad) for each in model.parameters()]
    return ParameterCount(sum(size for size, _ in sizes), sum(size for size, trained in sizes if trained))


def weights_bytes(model: nn.Module) -> int:
    """Bytes of parameters and buffers in memory, as they are stored now."""
    return sum(each.numel() * each.element_size() for each in (*model.parameters(), *model.buffers()))
