"""Runs a model's copy without memory and shows every operation to whoever listens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from polsess.costs.closed_forms import FUNCTIONS, OPERATIONS, PRODUCTS, Kind
from polsess.costs.stand_ins import stand_in


@dataclass(frozen=True)
class Operation:
    """One call of a traced run.

    Attributes:
        function: What was called: an operation of PyTorch, or a function that counts as a whole.
        args: Its arguments; fake tensors that die with the operation.
        kwargs: Its named arguments.
        output: What it gave.
        kind: Its kind of layer; None if it is not counted.
        macs: Its multiply-accumulates.
        module: The path of the module that called it; ``""`` for the model itself.
        real: Whether this is executed as such in a real run: not if it is made up of operations that are
            shown too, and not if it is part of a function that is itself executed.
    """

    function: Any
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    output: Any
    kind: Kind | None
    macs: int
    module: str
    real: bool = True


Listener = Callable[[Operation], None]


@contextmanager
def tracing(network: nn.Module, listener: Listener) -> Iterator[None]:
    """Show every operation within the block to the listener; fake tensors must be active.

    Args:
        network: The copy whose modules are told apart; it gets hooks for as long as the block lasts.
        listener: Called after each operation.
    """
    state = _State(listener, {_storage(each) for each in network.parameters()})
    hooks = []
    for name, module in network.named_modules():
        hooks.append(module.register_forward_pre_hook(lambda *_, name=name: state.path.append(name)))
        hooks.append(module.register_forward_hook(lambda *_: state.leave(), always_call=True))
    with ExitStack() as stack:
        for hook in hooks:
            stack.callback(hook.remove)
        stack.enter_context(_Functions(state))
        stack.enter_context(_Operations(state))
        yield


class _State:
    """What both modes share."""

    def __init__(self, listener: Listener, parameters: set[int]) -> None:
        self.listener = listener
        self.parameters = parameters
        self.path = [""]
        self.counted_as_whole = self.replaced = False
        """Whether a function is running that counts as a whole, and one that only stands in."""

    def leave(self) -> None:
        self.path.pop()

    @contextmanager
    def within_function(self, replaced: bool) -> Iterator[None]:
        self.counted_as_whole, self.replaced = True, replaced
        try:
            yield
        finally:
            self.counted_as_whole = self.replaced = False

    def kind_and_macs(self, packet: Any, args: Sequence[Any], output: Any) -> tuple[Kind | None, int]:
        if self.counted_as_whole or packet not in OPERATIONS:
            return None, 0
        kind, closed_form = OPERATIONS[packet]
        if packet in PRODUCTS:
            kind = "linear" if self._has_parameter(args) else "attention"
        return kind, closed_form(args, output)

    def _has_parameter(self, args: Sequence[Any]) -> bool:
        return any(isinstance(each, Tensor) and _storage(each) in self.parameters for each in args[-2:])


class _Operations(TorchDispatchMode):
    """Sees what PyTorch itself executes."""

    def __init__(self, state: _State) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.state = state

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        if func.namespace != "prim":
            kind, macs = self.state.kind_and_macs(func.overloadpacket, args, output)
            path, real = self.state.path[-1], not self.state.replaced
            self.state.listener(Operation(func, args, kwargs or {}, output, kind, macs, path, real))
        return output


class _Functions(TorchFunctionMode):
    """Sees functions that count as a whole, and stands in for those that need real memory."""

    def __init__(self, state: _State) -> None:
        super().__init__()
        self.state = state

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        replaced = stand_in(func, args)
        if func not in FUNCTIONS:
            return (replaced or func)(*args, **kwargs)
        with self.state.within_function(replaced is not None):
            output = (replaced or func)(*args, **kwargs)
        kind, closed_form = FUNCTIONS[func]
        macs, real = closed_form(args, output), replaced is not None
        self.state.listener(Operation(func, args, kwargs, output, kind, macs, self.state.path[-1], real=real))
        return output


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
