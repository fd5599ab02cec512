"""Passes through one network that recordings at work share: what waits together goes together.

Shapes: B batch, C sources, n samples.
"""

from __future__ import annotations

import queue
import threading
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

from polsess.audio import Samples
from polsess.inference.network import Estimator


@dataclass(frozen=True, eq=False)
class _Piece:
    rows: Samples
    done: Future[Samples] = field(default_factory=Future)


class SharedEstimator:
    """Runs a network for several threads, one pass after the other.

    Nobody waits for company: a pass takes what has come while the last one ran and is equally long, so that
    every piece comes out as if it were alone.

    Args:
        estimator: The network.
        batch_size: Most rows of a pass.
    """

    def __init__(self, estimator: Estimator, batch_size: int) -> None:
        self._estimator, self.batch_size = estimator, batch_size
        self.model_type, self.place = estimator.model_type, estimator.place
        self.precision = estimator.precision
        self.sample_rate, self.output_sources = estimator.sample_rate, estimator.output_sources
        self._queue: queue.SimpleQueue[_Piece] = queue.SimpleQueue()
        self.passes = self.rows = 0
        threading.Thread(target=self._run, name="passes", daemon=True).start()

    def estimate(self, mixtures: Samples) -> Samples:
        """Estimates ``[B, C, n]`` of mixtures ``[B, n]``."""
        piece = _Piece(mixtures)
        self._queue.put(piece)
        return piece.done.result()

    def _run(self) -> None:
        waiting: list[_Piece] = []
        while True:
            if not waiting:
                waiting.append(self._queue.get())
            while not self._queue.empty():
                waiting.append(self._queue.get())
            batch = self._pick(waiting)
            waiting = [piece for piece in waiting if piece not in batch]
            try:
                self._pass(batch)
            except Exception:  # nobody fails because of another's piece
                for piece in batch:
                    self._pass_alone(piece)

    def _pick(self, waiting: list[_Piece]) -> list[_Piece]:
        """The piece that has waited longest, and those that go with it."""
        batch, rows = waiting[:1], len(waiting[0].rows)
        for piece in waiting[1:]:
            equal = piece.rows.shape[-1] == waiting[0].rows.shape[-1]
            if equal and rows + len(piece.rows) <= self.batch_size:
                batch.append(piece)
                rows += len(piece.rows)
        return batch

    def _pass(self, batch: list[_Piece]) -> None:
        rows = np.concatenate([piece.rows for piece in batch])
        self.passes += 1
        self.rows += len(rows)
        estimates = self._estimator.estimate(rows)
        edges = np.cumsum([len(piece.rows) for piece in batch])[:-1]
        for piece, estimate in zip(batch, np.split(estimates, edges), strict=True):
            piece.done.set_result(estimate)

    def _pass_alone(self, piece: _Piece) -> None:
        try:
            self._pass([piece])
        except BaseException as error:  # whoever asked for the piece reports it
            piece.done.set_exception(error)
