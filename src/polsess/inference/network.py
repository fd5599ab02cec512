"""Passes of a network over pieces of a recording, with its errors told in the user's words.

What runs the network, torch or another library, stands behind ``Estimator``; arrays go in and come out.

Shapes: B batch, C sources, n samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from polsess.audio import Samples
from polsess.system_errors import shortage_of_memory


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


class Network:
    """A network that is ready for one recording.

    Args:
        estimator: The network.
        batch_size: Rows per pass.
        recording: Name of the recording, for messages.
    """

    def __init__(self, estimator: Estimator, batch_size: int, recording: str) -> None:
        self._estimator, self.batch_size, self._recording = estimator, batch_size, recording
        self.num_sources, self.sample_rate = estimator.output_sources, estimator.sample_rate
        self.num_speakers = 0, estimator.output_sources
        """The fewest and the most speakers that are separated, where the network counts them."""
        self._most, self._at_most = 0, np.ones(estimator.output_sources + 1)

    def estimate(self, rows: Samples, starts: list[int]) -> Samples:
        """Estimates ``[B, C, n]`` of mixtures ``[B, n]``; digital silence needs no network.

        Args:
            rows: Any number of them; at most ``batch_size`` go through the network at once.
            starts: The sample of the recording at which each row begins, for messages.

        Raises:
            SeparationError: If the network returns NaN or infinity, or the memory does not suffice.
        """
        estimates = np.zeros((len(rows), self.num_sources, rows.shape[-1]), np.float32)
        audible = np.flatnonzero(rows.any(1))
        size = self.batch_size
        for batch in (audible[first : first + size] for first in range(0, len(audible), size)):
            estimates[batch] = self._run(rows[batch])
        for row, start in zip(estimates, starts, strict=True):
            if not np.isfinite(row).all():
                raise SeparationError(
                    f"{self._recording}: the model returned NaN or infinity in the segment at "
                    f"{start / self.sample_rate:.1f} s; nothing was written. Check the weights, or use "
                    "another model."
                )
        return estimates

    def _run(self, batch: Samples) -> Samples:
        try:
            if isinstance(self._estimator, CountingEstimator):
                return self._count(self._estimator, batch)
            return self._estimator.estimate(batch)
        except (RuntimeError, MemoryError) as error:
            if (shortage := shortage_of_memory(error)) is None:
                raise
            if len(batch) == 1:
                seconds = batch.shape[-1] / self.sample_rate
                raise SeparationError(
                    f"a piece of {seconds:.1f} s does not fit in the memory of {self._estimator.place}: "
                    f"{shortage}; choose shorter pieces (--segment {seconds / 2:.0f}) or a smaller model."
                ) from None
        self.batch_size = half = (len(batch) + 1) // 2  # also for the pieces to come
        return np.concatenate([self._run(batch[:half]), self._run(batch[half:])])

    def _count(self, estimator: CountingEstimator, batch: Samples) -> Samples:
        fewest, most = (min(each, self.num_sources) for each in self.num_speakers)
        known = np.full(len(batch), most) if fewest == most else None
        estimates, counts = estimator.estimate_counted(batch, known)
        wanted = counts.numbers.clip(fewest, most)
        if known is None and (wanted != counts.numbers).any():
            estimates, _ = estimator.estimate_counted(batch, wanted)
        self._most = max(self._most, int(wanted.max()))
        self._at_most *= counts.probabilities.cumsum(-1).prod(0)
        return estimates

    @property
    def count(self) -> SpeakerCount | None:
        """Speakers of the segments up to now; None where the network does not count them."""
        if not isinstance(self._estimator, CountingEstimator):
            return None
        below = float(self._at_most[self._most - 1]) if self._most else 0.0
        return SpeakerCount(self._most, float(self._at_most[self._most]) - below)
