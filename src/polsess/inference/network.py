"""Separation networks, whatever runs them: arrays go in and come out.

Shapes: B batch, C sources, n samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from polsess.audio import Samples


class SeparationError(ValueError):
    """A recording could not be separated; the message names it and the cause."""


class Estimator(Protocol):
    """A separation network, whatever runs it."""

    @property
    def model_type(self) -> str:
        """The architecture."""

    @property
    def sample_rate(self) -> int:
        """In Hz."""

    @property
    def output_sources(self) -> int:
        """C."""

    @property
    def place(self) -> str:
        """Where it runs, for messages: cpu, cuda ..."""

    @property
    def precision(self) -> str:
        """The type in which its products are computed."""

    def estimate(self, mixtures: Samples) -> Samples:
        """Estimates ``[B, C, n]`` of mixtures ``[B, n]``."""


@dataclass(frozen=True)
class SpeakerCounts:
    """How many speakers a network hears in each of B mixtures."""

    numbers: NDArray[np.int64]
    """``[B]``, whole numbers from 0 to C."""
    probabilities: NDArray[np.float64]
    """``[B, C + 1]``: of each number from 0 to C."""


@runtime_checkable
class CountingEstimator(Estimator, Protocol):
    """A separation network that says how many speakers there are; ``output_sources`` is the most."""

    def estimate_counted(
        self, mixtures: Samples, num_speakers: NDArray[np.int64] | None
    ) -> tuple[Samples, SpeakerCounts]:
        """Estimates ``[B, C, n]`` of mixtures ``[B, n]``, silent behind those of the speakers.

        Args:
            mixtures: ``[B, n]``.
            num_speakers: How many are separated, ``[B]``; None for as many as are counted.
        """


@dataclass(frozen=True)
class SpeakerCount:
    """How many speakers a network hears in a recording."""

    number: int
    probability: float
    """0 to 1. Of several segments: that none has more and one has as many, each counted by itself."""


def check_number(fewest: int, num_sources: int, counts_speakers: bool) -> None:
    """See that a network can separate as many speakers as are asked for.

    Args:
        fewest: The fewest that are asked for.
        num_sources: C.
        counts_speakers: Whether it says how many there are.

    Raises:
        ValueError: If it cannot.
    """
    if counts_speakers and fewest > num_sources:
        raise ValueError(f"num_speakers: this network separates 1 to {num_sources}, got {fewest}.")
    if not counts_speakers and num_sources > 1:
        raise ValueError(
            "num_speakers: only the gate counts voices, and models made for it, which this one is not; "
            "leave it or gate='never' out."
        )
