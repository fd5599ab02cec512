"""Multiply-accumulates of a model, counted by closed forms while a copy without numbers runs.

The copy is on the meta device, where tensors have shapes and no memory. Functions that look at numbers or
pass pointers to a kernel are replaced there by stand-ins, which return outputs of the right shapes.

Shapes: B batch, L length, F bins, T samples.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from polsess.costs.closed_forms import FUNCTIONS, KINDS, OPERATIONS, PRODUCTS, Kind
from polsess.models import Network
from polsess.models.layers.causal_conv import causal_conv
from polsess.models.layers.selective_scan import selective_scan, selective_scan_with_state


@dataclass(frozen=True)
class MacCount:
    """Arithmetic of a model on one mixture; ``polsess.costs.closed_forms`` defines what is counted.

    Attributes:
        num_samples: T, the length of the mixture.
        sample_rate: Sample rate of the model, in Hz.
        by_kind: MACs of every kind of layer, zeros included.
        by_module: MACs of the modules that compute anything themselves, by their paths; ``""`` is the model.
    """

    num_samples: int
    sample_rate: int
    by_kind: Mapping[Kind, int]
    by_module: Mapping[str, int]

    @property
    def total(self) -> int:
        """MACs of the whole mixture; FLOPs are twice as many."""
        return sum(self.by_kind.values())

    @property
    def per_second(self) -> float:
        """MACs per second of audio at the model's own sample rate."""
        return self.total * self.sample_rate / self.num_samples

    def within(self, path: str) -> int:
        """MACs of a module with everything below it."""
        inside = [name for name in self.by_module if not path or name == path or name.startswith(f"{path}.")]
        return sum(self.by_module[name] for name in inside)


MAC_SECONDS = 4.0
"""Length of the mixture on which multiply-accumulates per second are counted, as long as those of PolSESS."""


def count_macs(model: Network, seconds: float = MAC_SECONDS) -> MacCount:
    """Count the arithmetic of one inference on one mixture.

    No numbers are computed and no memory of the model's size is taken, so models on the meta device can be
    counted as well.

    Args:
        model: Any registered model; it is neither run nor changed.
        seconds: Length of the mixture; figures per second of sound are of the default everywhere. Networks
            that work in chunks pad, so one second costs a little more than a second of a long recording;
            attention over everything costs less.

    Raises:
        ValueError: If the mixture has not even one sample.
    """
    num_samples = round(seconds * model.sample_rate)
    if num_samples < 1:
        raise ValueError(f"seconds: expected at least one sample at {model.sample_rate} Hz, got {seconds}.")
    twins = {id(each): _on_meta(each) for each in (*model.parameters(), *model.buffers())}
    network = copy.deepcopy(model, twins).eval()
    counter = _Counter(network)
    with torch.no_grad(), counter.counting():
        network(torch.empty(1, num_samples, device="meta"))
    return MacCount(num_samples, model.sample_rate, dict(counter.by_kind), dict(counter.by_module))


def _on_meta(tensor: Tensor) -> Tensor:
    empty = torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype, device="meta")
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(empty, requires_grad=tensor.requires_grad)
    return empty


class _Counter:
    """MACs of the operations that a network on the meta device executes.

    Args:
        network: It has hooks on its modules while the operations are counted.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.by_kind: Counter[Kind] = Counter(dict.fromkeys(KINDS, 0))
        self.by_module: Counter[str] = Counter()
        self._parameters = {_storage(each) for each in network.parameters()}
        self._path = [""]
        self._in_function = False

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count everything that runs within the block."""
        with ExitStack() as stack:
            for name, module in self.network.named_modules():
                enter = module.register_forward_pre_hook(lambda *_, name=name: self._path.append(name))
                leave = module.register_forward_hook(lambda *_: self._leave(), always_call=True)
                stack.callback(enter.remove)
                stack.callback(leave.remove)
            stack.enter_context(_Functions(self))
            stack.enter_context(_Operations(self))
            yield

    def count_function(self, function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Call a function that is counted as a whole; the operations within it are not."""
        self._in_function = True
        try:
            output = _STAND_INS.get(function, function)(*args, **kwargs)
        finally:
            self._in_function = False
        kind, closed_form = FUNCTIONS[function]
        self._add(kind, closed_form(args, output))
        return output

    def count_operation(self, packet: Any, args: Sequence[Any], output: Any) -> None:
        """Count one operation of PyTorch."""
        if self._in_function or packet not in OPERATIONS:
            return
        kind, closed_form = OPERATIONS[packet]
        if packet in PRODUCTS:
            kind = "linear" if self._has_parameter(args) else "attention"
        self._add(kind, closed_form(args, output))

    def _add(self, kind: Kind, macs: int) -> None:
        self.by_kind[kind] += macs
        self.by_module[self._path[-1]] += macs

    def _leave(self) -> None:
        self._path.pop()

    def _has_parameter(self, args: Sequence[Any]) -> bool:
        return any(isinstance(each, Tensor) and _storage(each) in self._parameters for each in args[-2:])


class _Operations(TorchDispatchMode):
    """Intercepts what PyTorch itself executes."""

    def __init__(self, counter: _Counter) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counter = counter

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        self.counter.count_operation(func.overloadpacket, args, output)
        return output


class _Functions(TorchFunctionMode):
    """Intercepts functions that are counted as a whole or need a stand-in."""

    def __init__(self, counter: _Counter) -> None:
        super().__init__()
        self.counter = counter

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in FUNCTIONS:
            return self.counter.count_function(func, args, kwargs)
        return _STAND_INS.get(func, func)(*args, **kwargs)


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _like_first(first: Tensor, *_: Any, **__: Any) -> Tensor:
    return first.new_empty(first.shape)


def _scan_with_state(u: Tensor, _delta: Tensor, a: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
    return u.new_empty(u.shape), u.new_empty((len(u), *a.shape))


def _recurrent(steps: Tensor, states: Any, _weights: Any, *options: Any) -> tuple[Tensor, ...]:
    """``torch.lstm`` and its like; on the meta device PyTorch runs them step by step, which takes long."""
    *_, bidirectional, _batch_first = options
    states = [states] if isinstance(states, Tensor) else states
    width = states[0].shape[-1] * (1 + bidirectional)
    return (steps.new_empty((*steps.shape[:-1], width)), *(each.new_empty(each.shape) for each in states))


def _istft(
    spectrum: Tensor, n_fft: int, hop_length: int, *_: Any, length: int | None = None, **__: Any
) -> Tensor:
    """The inverse transform of ``[B, F, L]`` without its test whether the windows overlap."""
    frames = torch.fft.irfft(spectrum, n=n_fft, dim=-2)
    total = (frames.shape[-1] - 1) * hop_length + n_fft
    wave = F.fold(frames, (1, total), (1, n_fft), stride=(1, hop_length))[:, 0, 0, n_fft // 2 :]
    return wave[:, : length or total - n_fft].clone()


_STAND_INS: dict[Any, Callable[..., Any]] = {
    causal_conv: _like_first,
    selective_scan: _like_first,
    selective_scan_with_state: _scan_with_state,
    torch.lstm: _recurrent,
    torch.gru: _recurrent,
    torch.rnn_tanh: _recurrent,
    torch.rnn_relu: _recurrent,
    torch.istft: _istft,
}
"""Functions to call in place of those that cannot run on the meta device, or not fast."""
