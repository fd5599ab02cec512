"""The clips of a test: one target of one utterance each, as every system left it.

Shapes: C sources, T samples.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from polsess.evaluation import SavedEvaluation, UtteranceSounds
from polsess.schema import ConfigError, suggest


@dataclass(frozen=True)
class Clip:
    """What trials are made of; all sounds ``[T]``."""

    item: str
    """The utterance."""
    source: int
    """Which of its references is the target."""
    mixture: Tensor
    reference: Tensor
    estimates: Mapping[str, Tensor]
    """By system."""
    sample_rate: int
    """In Hz."""


class Clips:
    """The utterances that all evaluations share.

    Args:
        evaluations: Of different systems on the same data.

    Raises:
        ConfigError: If they have no utterance in common, or a name twice.
    """

    def __init__(self, evaluations: Sequence[SavedEvaluation]) -> None:
        self._evaluations = {each.evaluation.system: each for each in evaluations}
        if len(self._evaluations) < len(evaluations):
            raise ConfigError(
                "listen: two evaluations are of one name; evaluate under different names of models."
            )
        tables = [
            {(row.identifier, row.content) for row in each.evaluation.rows if not row.failure}
            for each in evaluations
        ]
        shared = set.intersection(*tables)
        self.items = [identifier for identifier, _ in sorted(shared)]
        self.num_left_out = max(len(each.evaluation.rows) for each in evaluations) - len(self.items)
        """Utterances that are missing or failed in one of the evaluations."""
        if not self.items:
            raise ConfigError("listen: the evaluations have no utterance in common; use the same data.")
        self._heard: dict[str, list[UtteranceSounds]] = {}

    @property
    def systems(self) -> list[str]:
        """Names of the systems."""
        return list(self._evaluations)

    def draw(self, seed: int, chosen: Sequence[str] = ()) -> Iterator[Clip]:
        """Clips in random order: one target of every utterance, then another, until all have come.

        Args:
            seed: Of the order.
            chosen: Only these utterances; the first clip comes from another one, if there is one.

        Raises:
            ConfigError: If a chosen utterance is not there.
        """
        for item in chosen:
            if item not in self.items:
                raise ConfigError(f"--item '{item}': not among them." + suggest(item, self.items, "Known"))
        drawn = random.Random(f"clips/{seed}")  # noqa: S311 - a reproducible order, no secret
        order = drawn.sample(self.items, len(self.items))
        others = [item for item in order if item not in chosen]
        first, *rest = [*others[:1], *chosen] if chosen else order
        yield self._clip(first, 0)
        rest = rest or [first]
        num_sources = len(self._hear(first)[0].references)
        targets = {item: drawn.sample(range(num_sources), num_sources) for item in rest}
        for turn in range(num_sources):
            for item in rest:
                if (item, targets[item][turn]) != (first, 0):
                    yield self._clip(item, targets[item][turn])

    def _hear(self, item: str) -> list[UtteranceSounds]:
        if item not in self._heard:
            self._heard[item] = [each.sounds(item) for each in self._evaluations.values()]
        return self._heard[item]

    def _clip(self, item: str, source: int) -> Clip:
        heard = self._hear(item)
        return Clip(
            item=item,
            source=source,
            mixture=torch.from_numpy(heard[0].mixture),
            reference=torch.from_numpy(heard[0].references[source]),
            estimates={
                name: torch.from_numpy(each.estimates[source])
                for name, each in zip(self._evaluations, heard, strict=True)
            },
            sample_rate=heard[0].sample_rate,
        )
