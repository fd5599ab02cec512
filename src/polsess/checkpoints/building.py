"""A model for the tensors of a file, whose configuration may claim other sizes than the tensors have.

The network is built once, on the CPU, under a watch that stops as soon as it grows well beyond the file: a
claim costs neither time nor memory. Its first weights are not drawn, since those of the file replace them.
(Building on torch's meta device instead would import a compiler, which takes seconds.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, overload

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from polsess.checkpoints.unpickling import CheckpointError
from polsess.models import Network, NetworkConfig, SeparationModel, get_model_class
from polsess.models.registry import NetworkT
from polsess.schema import ConfigError


@overload
def build_model(config: NetworkConfig, state: Mapping[str, Tensor], where: str) -> SeparationModel: ...
@overload
def build_model(
    config: NetworkConfig, state: Mapping[str, Tensor], where: str, *, kind: type[NetworkT]
) -> NetworkT: ...
def build_model(
    config: NetworkConfig,
    state: Mapping[str, Tensor],
    where: str,
    *,
    kind: type[Network] = SeparationModel,
) -> Network:
    """A model with these weights.

    Args:
        config: Its configuration.
        state: Its tensors by name.
        where: The file, for messages.
        kind: What it has to be; ``Network`` takes every kind.

    Raises:
        CheckpointError: If it is of another kind, or a tensor is missing, unknown, of another shape or not
            finite.
    """
    try:
        get_model_class(config.model_type, kind)
    except ConfigError as error:
        raise CheckpointError(f"{where}: {error}") from None
    model = _checked(config, state, where)
    model.load_state_dict(dict(state))
    return model


def check_state(config: NetworkConfig, state: Mapping[str, Tensor], where: str) -> None:
    """See that tensors are those of a configuration.

    Raises:
        CheckpointError: If a tensor is missing, unknown, of another shape or not finite.
    """
    _checked(config, state, where)


def _checked(config: NetworkConfig, state: Mapping[str, Tensor], where: str) -> Network:
    """The network of a configuration, not yet filled, whose tensors are those of the state."""
    gradients = torch.is_grad_enabled()
    try:
        with _Watch(state):
            model = get_model_class(config.model_type, Network).from_config(config)
    except _TooLargeError as error:
        raise CheckpointError(f"{where}: {error}") from None
    except (RuntimeError, TypeError, ArithmeticError, MemoryError) as error:
        reason = " ".join(str(error).split())[:160]
        raise CheckpointError(f"{where}: the configuration cannot be built ({reason}).") from None
    finally:  # the watch can stop the very call that ends a block without gradients
        torch.set_grad_enabled(gradients)
    expected = model.state_dict()
    missing = [key for key in expected if key not in state]
    if missing:
        raise CheckpointError(f"{where}: {_some(missing)} missing; the configuration asks for it.")
    extra = [key for key in state if key not in expected]
    if extra:
        raise CheckpointError(f"{where}: {_some(extra)} unknown; the configuration has no place for it.")
    for key, value in state.items():
        shape, asked = list(value.shape), list(expected[key].shape)
        if shape != asked:
            raise CheckpointError(f"{where}: {key} is {shape}, the configuration asks for {asked}.")
        if expected[key].is_floating_point() and not value.is_floating_point():
            raise CheckpointError(f"{where}: {key} is {value.dtype}, expected floating-point weights.")
        if value.is_floating_point() and value.dtype not in _READ:
            raise CheckpointError(f"{where}: {key} is {value.dtype}, expected weights of 16, 32 or 64 bits.")
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise CheckpointError(f"{where}: {key} holds NaN or infinite values; the training had failed.")
    return model


_READ = {torch.float16, torch.bfloat16, torch.float32, torch.float64}


class _Watch(TorchFunctionMode):
    """Stops a constructor that needs many more tensors or elements than a file holds; draws nothing.

    Args:
        state: The tensors of the file.
    """

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        self._calls = 10_000 + 50 * len(state)  # of torch's functions; architectures need 3 to 6 a tensor
        self._elements: float = (1 << 22) + 4 * sum(value.numel() for value in state.values())

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        self._calls -= 1
        if self._calls < 0:
            raise _TooLargeError("the configuration asks for many more tensors than the file has.")
        if func in _DRAWS:
            return args[0] if args else (kwargs or {})["tensor"]
        if func in _FACTORIES:  # before the memory is taken
            self._elements -= _FACTORIES[func](args)
            if self._elements < 0:
                raise _TooLargeError("the configuration asks for a network many times as large as the file.")
        return (torch.empty if func is torch.randn else func)(*args, **(kwargs or {}))


class _TooLargeError(RuntimeError):
    pass


def _product(args: tuple[Any, ...]) -> float:
    """The elements of a shape: sizes one by one or as a sequence."""
    sizes = args[0] if args and isinstance(args[0], tuple | list) else args
    return math.prod(float(size) for size in sizes)


def _range(args: tuple[Any, ...]) -> float:
    return max((abs(float(arg)) for arg in args), default=0.0)


_FACTORIES: dict[Callable[..., Any], Callable[[tuple[Any, ...]], float]] = {
    **dict.fromkeys((torch.empty, torch.zeros, torch.ones, torch.randn), _product),
    torch.full: lambda args: _product(args[:1]),
    **dict.fromkeys((torch.arange, torch.linspace, torch.hann_window, torch.hamming_window), _range),
}
_KINDS = ("uniform_", "normal_", "kaiming_uniform_", "kaiming_normal_", "xavier_uniform_", "xavier_normal_")
_DRAWS = {Tensor.uniform_, Tensor.normal_, *(getattr(nn.init, kind) for kind in _KINDS)}


def _some(keys: list[str]) -> str:
    rest = f" and {len(keys) - 1} more tensors are" if len(keys) > 1 else " is"
    return f"{keys[0]}{rest}"
