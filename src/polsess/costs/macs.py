"""Multiply-accumulates of a model, counted by closed forms while a copy without memory runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from polsess.costs.closed_forms import KINDS, Kind
from polsess.costs.fake import FakeModel
from polsess.costs.passes import infer, samples_of
from polsess.costs.tracing import Operation, tracing
from polsess.models import SeparationModel


@dataclass(frozen=True)
class MacCount:
    """What a model computes for a mixture; ``polsess.costs.closed_forms`` says what counts.

    Attributes:
        num_samples: T, the length of the mixture.
        sample_rate: The model's, in Hz.
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


def count_macs(model: SeparationModel, seconds: float = 1.0) -> MacCount:
    """Count what one pass of inference over one mixture takes.

    No numbers are computed and no memory of the model's size is taken, so that models on the meta device can
    be counted as well.

    Args:
        model: Any registered model; it is neither run nor changed.
        seconds: Length of the mixture. Networks that work in chunks pad, so that one second costs a little
            more than a second of a long recording, and attention over everything costs less.

    Raises:
        ValueError: If there is not one sample.
    """
    num_samples = samples_of(model, seconds)
    by_kind: Counter[Kind] = Counter(dict.fromkeys(KINDS, 0))
    by_module: Counter[str] = Counter()

    def add(operation: Operation) -> None:
        if operation.kind is not None:
            by_kind[operation.kind] += operation.macs
            by_module[operation.module] += operation.macs

    fake = FakeModel(model, "meta")
    with fake.active(), tracing(fake.network, add):
        infer(fake.network, fake.noise(1, num_samples))
    return MacCount(num_samples, model.sample_rate, dict(by_kind), dict(by_module))
