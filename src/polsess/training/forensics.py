"""Which module first produced a value that is not finite."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle


def first_non_finite_module(model: nn.Module, mixture: Tensor) -> str:
    """The name of the innermost module whose output is the first not to be finite.

    Args:
        model: The network, run once more without gradients.
        mixture: ``[B, T]``.

    Returns:
        Its dotted name; ``"parameters: NAME"`` for a weight that is not finite itself, ``"the mixture"`` for
        the input, ``"the loss or its gradient"`` if every module's output is finite.
    """
    if not mixture.isfinite().all():
        return "the mixture"
    for name, parameter in model.named_parameters():
        if not parameter.isfinite().all():
            return f"parameters: {name}"
    found: list[str] = []

    def watch(name: str) -> RemovableHandle:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if not found and not all(bool(t.isfinite().all()) for t in _tensors(output)):
                found.append(name)

        return modules[name].register_forward_hook(hook)

    modules = dict(model.named_modules())
    handles = [watch(name) for name in modules]
    try:
        with torch.no_grad():
            model(mixture)
    finally:
        for handle in handles:
            handle.remove()
    return (found[0] or type(model).__name__) if found else "the loss or its gradient"


def _tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, (list, tuple)):
        for part in output:
            yield from _tensors(part)
