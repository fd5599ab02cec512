"""Passes of a network over pieces of a recording, with its errors told in the user's words.

What runs the network, torch or another library, stands behind ``Estimator``; arrays go in and come out.

Shapes: B batch, C sources, n samples.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

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

    def estimate(self, mixtures: Samples) -> Samples:
        """Estimates ``[B, C, n]`` of mixtures ``[B, n]``."""


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
        for first in range(0, len(audible), self.batch_size):
            batch = audible[first : first + self.batch_size]
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
            return self._estimator.estimate(batch)
        except (RuntimeError, MemoryError) as error:
            if (shortage := shortage_of_memory(error)) is None:
                raise
            seconds = batch.shape[-1] / self.sample_rate
            pieces = "a piece" if len(batch) == 1 else f"{len(batch)} pieces"
            raise SeparationError(
                f"{pieces} of {seconds:.1f} s does not fit in the memory of {self._estimator.place}: "
                f"{shortage}; choose shorter pieces (--segment {seconds / 2:.0f}) or a smaller model."
            ) from None
