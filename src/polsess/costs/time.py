"""How long a run will take, from every distinct operation timed once on the machine that will run it.

A network repeats a few operations many times. Each distinct one (function, shapes, layouts) is called on
made-up numbers, so that the prediction knows this machine's rates for just these sizes and takes a fraction
of the run. For longer mixtures than that is done for, an operation's time grows as its multiply-accumulates,
or as the bytes that it touches where it has none.
"""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree

from polsess.costs.fake import FakeModel
from polsess.costs.passes import infer, samples_of
from polsess.costs.tracing import Operation, tracing
from polsess.models import SeparationModel

_LONGEST_SECONDS = 4.0
"""Operations are timed at this length at most."""
_ENOUGH_SECONDS = 0.02
"""An operation is repeated for as long, so that a clock can tell."""
_FEWEST_CALLS, _MOST_CALLS = 5, 40
_CACHE_BYTES = 2**25
"""More than a core keeps near itself."""
_LONG_SECONDS = 0.5
"""An operation that takes as long is called once."""


@dataclass(frozen=True)
class TimePrediction:
    """Seconds that a run will take.

    Attributes:
        seconds: Of the whole run.
        audio_seconds: Of the mixtures that it works through.
        by_operation: Seconds of every kind of operation, the longest first.
        num_calls: Operations that the run executes.
        num_distinct: How many of them were timed.
    """

    seconds: float
    audio_seconds: float
    by_operation: Mapping[str, float]
    num_calls: int
    num_distinct: int

    @property
    def real_time_factor(self) -> float:
        """Seconds of work per second of audio."""
        return self.seconds / self.audio_seconds


def predict_time(
    model: SeparationModel,
    seconds: float,
    device: torch.device | str = "cpu",
    *,
    batch_size: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> TimePrediction:
    """Predict an inference; a training step takes some three times as long.

    Args:
        model: Any registered model, also one on the meta device; it is neither run nor changed.
        seconds: Length of each mixture.
        device: Where it will run: a CPU, with as many threads as torch uses now, or CUDA.
        batch_size: B, mixtures at once.
        clock: What tells the time; ``time.process_time`` leaves out what other programs take.

    Raises:
        ValueError: If there is not one sample, or the device is of another kind.
    """
    device = torch.device(device)
    if device.type not in {"cpu", "cuda"}:
        raise ValueError(f"device: expected cpu or cuda, got {device}; measure there: polsess benchmark.")
    num_samples = samples_of(model, seconds)
    short = min(num_samples, samples_of(model, _LONGEST_SECONDS))
    traced = _rehearse(model, short, device, batch_size)
    timer = _Timer(device, clock)
    spent: dict[str, float] = defaultdict(float)
    for operation, calls in traced.calls.items():
        spent[_name(operation.function)] += calls * timer.seconds_of(operation)
    num_calls = traced.calls.total()
    if short < num_samples:
        long = _rehearse(model, num_samples, device, batch_size)
        for name in spent:
            spent[name] *= long.work[name] / traced.work[name]
        num_calls = long.calls.total()
    audio = batch_size * num_samples / model.sample_rate
    longest_first = dict(sorted(spent.items(), key=lambda item: -item[1]))
    total = sum(spent.values())
    return TimePrediction(total, audio, longest_first, num_calls, len(traced.calls))


@dataclass(frozen=True)
class _Shape:
    """What stands for a tensor in an operation that is to be repeated."""

    size: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype

    @classmethod
    def of(cls, leaf: Any) -> Any:
        """The shape of a tensor; anything else as it is."""
        return cls(tuple(leaf.shape), leaf.stride(), leaf.dtype) if isinstance(leaf, Tensor) else leaf

    def made_up(self, device: torch.device) -> Tensor:
        """A tensor of ones; indices are zeros."""
        last = sum((n - 1) * step for n, step in zip(self.size, self.stride, strict=True))
        value = 1 if self.dtype.is_floating_point or self.dtype.is_complex else 0
        count = last + 1 if 0 not in self.size else 0
        flat = torch.full((count,), value, dtype=self.dtype, device=device)
        return flat.as_strided(self.size, self.stride)


@dataclass(frozen=True)
class _Call:
    """A function with its arguments: shapes in place of tensors; equal calls take equal time."""

    function: Any
    leaves: tuple[Any, ...]
    tree: _pytree.TreeSpec

    @classmethod
    def of(cls, operation: Operation) -> _Call:
        leaves, tree = _pytree.tree_flatten((tuple(operation.args), dict(operation.kwargs)))
        return cls(operation.function, tuple(_Shape.of(each) for each in leaves), tree)

    def __hash__(self) -> int:
        return hash((_name(self.function), self.leaves))

    @property
    def num_bytes(self) -> int:
        """Bytes of the operands, at least one."""
        shapes = [each for each in self.leaves if isinstance(each, _Shape)]
        return 1 + sum(math.prod(each.size) * each.dtype.itemsize for each in shapes)

    def made_up(self, device: torch.device) -> Callable[[], Any]:
        leaves = [each.made_up(device) if isinstance(each, _Shape) else each for each in self.leaves]
        args, kwargs = _pytree.tree_unflatten(leaves, self.tree)
        return lambda: self.function(*args, **kwargs)


@dataclass(frozen=True)
class _Rehearsal:
    """How often each distinct call happens, and the work of all calls of one name."""

    calls: Counter[_Call]
    work: Counter[str]


def _rehearse(model: SeparationModel, num_samples: int, device: torch.device, batch_size: int) -> _Rehearsal:
    seen = _Rehearsal(Counter(), Counter())

    def note(operation: Operation) -> None:
        function = operation.function
        if not operation.real or getattr(function, "is_view", False):
            return
        seen.calls[_Call.of(operation)] += 1
        seen.work[_name(function)] += operation.macs or _touched_bytes(operation)

    fake = FakeModel(model, device)
    with fake.active(), tracing(fake.network, note):
        infer(fake.network, fake.noise(batch_size, num_samples))
    return seen


class _Timer:
    """Times made-up calls on a device."""

    def __init__(self, device: torch.device, clock: Callable[[], float]) -> None:
        self.device, self.clock = device, clock

    def seconds_of(self, call: _Call) -> float:
        """The median of several calls after one that is not counted, unless that alone takes long.

        The calls take turns at several copies of their operands: in a network they meet other weights and
        other features than the last time, which are no longer in the processor's cache.
        """
        copies = max(1, min(_MOST_CALLS, _CACHE_BYTES // call.num_bytes))
        runs = itertools.cycle([call.made_up(self.device) for _ in range(copies)])
        with torch.no_grad():
            first = self._once(next(runs))
            times: list[float] = []
            while first < _LONG_SECONDS and len(times) < _MOST_CALLS:
                times.append(self._once(next(runs)))
                if len(times) >= _FEWEST_CALLS and sum(times) > _ENOUGH_SECONDS:
                    break
        return statistics.median(times or [first])

    def _once(self, run: Callable[[], Any]) -> float:
        self._wait()
        start = self.clock()
        run()
        self._wait()
        return self.clock() - start

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def _touched_bytes(operation: Operation) -> int:
    leaves = _pytree.tree_leaves((operation.args, operation.kwargs, operation.output))
    return 1 + sum(each.numel() * each.element_size() for each in leaves if isinstance(each, Tensor))


def _name(function: Any) -> str:
    packet = getattr(function, "overloadpacket", function)
    return str(packet.__name__)
