"""Scores computed in worker processes while the network runs, in the order of the utterances.

A worker that dies (the code behind PESQ is known to crash on some signals) costs one utterance one metric,
not the run.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Generic, Self, TypeVar

import torch

from polsess.audio import Samples
from polsess.metrics.conversations import Conversation
from polsess.metrics.predictors import PredictorConfig
from polsess.metrics.scores import PACKAGES, Scores, columns_of, score_utterance
from polsess.processes import create_pool, num_processors

TagT = TypeVar("TagT")
_MIN_UTTERANCES = 16
_PRELOADED = sorted(set(PACKAGES.values()))


Known = tuple[Conversation | None, int | None]
"""Who talks when, where that is known, and how many speakers the system counted, where it does."""


@dataclass(frozen=True)
class Job(Generic[TagT]):
    """One utterance to score; ``tag`` is returned with the scores."""

    tag: TagT
    signals: tuple[Samples, Samples, Samples] | None
    """Estimates ``[C, T]``, references ``[C, T]`` and mixture ``[T]``; None if there is nothing to score."""
    known: Known = (None, None)


class ScorePool:
    """Worker processes that score utterances.

    Args:
        num_workers: Processes; 0 computes in the calling one.
        sample_rate: Sample rate of the signals in Hz.
        metrics: Names from ``METRICS``.
        predictors: Networks that score without a reference.
    """

    def __init__(
        self,
        num_workers: int,
        sample_rate: int,
        metrics: tuple[str, ...],
        predictors: tuple[PredictorConfig, ...] = (),
    ) -> None:
        self.num_workers = num_workers
        self._options = (sample_rate, metrics, predictors)
        self._executor = _create_executor(num_workers) if num_workers else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)

    def map(self, jobs: Iterable[Job[TagT]]) -> Iterator[tuple[TagT, Scores]]:
        """Score utterances in order, taking the next few from ``jobs`` while workers are busy."""
        pending: deque[tuple[Job[TagT], Future[Scores] | None]] = deque()
        for job in jobs:
            pending.append((job, self._submit(job)))
            while pending and (len(pending) > 2 * self.num_workers or _is_done(pending[0][1])):
                yield self._collect(*pending.popleft())
        while pending:
            yield self._collect(*pending.popleft())

    def _submit(self, job: Job[TagT]) -> Future[Scores] | None:
        if self._executor is None or job.signals is None:
            return None
        try:
            return self._executor.submit(score_utterance, *job.signals, *self._options, *job.known)
        except BrokenProcessPool:
            self._executor = _create_executor(self.num_workers)
            return self._executor.submit(score_utterance, *job.signals, *self._options, *job.known)

    def _collect(self, job: Job[TagT], future: Future[Scores] | None) -> tuple[TagT, Scores]:
        if job.signals is None:
            return job.tag, Scores({})
        if future is None:
            return job.tag, score_utterance(*job.signals, *self._options, *job.known)
        try:
            return job.tag, future.result()
        except BrokenProcessPool:
            return job.tag, self._score_apart(*job.signals, known=job.known)

    def _score_apart(self, *signals: Samples, known: Known) -> Scores:
        """Score every metric in its own process; a metric that crashes gets a reason instead of values."""
        _check_that_processes_start()
        scores = Scores({})
        rate, metrics, predictors = self._options
        parts = [
            *(_score_alone(signals, rate, (metric,), (), known) for metric in metrics),
            *(_score_alone(signals, rate, (), (each,), known) for each in predictors),
        ]
        for part in parts:
            scores = replace(
                scores,
                values={**scores.values, **part.values},
                reasons={**scores.reasons, **part.reasons},
                permutation=part.permutation or scores.permutation,
                seconds={**scores.seconds, **part.seconds},
                unassigned_db=part.unassigned_db if part.permutation else scores.unassigned_db,
            )
        return scores


def _score_alone(
    signals: tuple[Samples, ...],
    sample_rate: int,
    metrics: tuple[str, ...],
    predictors: tuple[PredictorConfig, ...],
    known: Known,
) -> Scores:
    """One metric or one predictor."""
    estimates, references, mixture = signals
    with _create_executor(1) as executor:
        try:
            return executor.submit(
                score_utterance,
                estimates,
                references,
                mixture,
                sample_rate,
                metrics,
                predictors,
                *known,
            ).result()
        except BrokenProcessPool:
            (name,) = (*metrics, *(each.name for each in predictors))
            columns = (*columns_of(metrics), *(column for each in predictors for column in each.columns))
            values = dict.fromkeys(columns, (math.nan,) * len(references))
            return Scores(values, dict.fromkeys(columns, f"{name} crashed its process"))


def _check_that_processes_start() -> None:
    with _create_executor(1) as executor:
        try:
            executor.submit(os.getpid).result()
        except BrokenProcessPool:
            raise RuntimeError(
                "ScorePool: the processes for the metrics do not start. In a script, put the call under "
                "`if __name__ == '__main__':`, or pass num_workers=0 (--jobs 0)."
            ) from None


def default_workers(metrics: tuple[str, ...], num_utterances: int) -> int:
    """A process per core; none where starting them takes longer than the metrics."""
    if set(metrics) <= {"si_snr"} or num_utterances < _MIN_UTTERANCES:
        return 0
    return num_processors()


def _is_done(future: Future[Scores] | None) -> bool:
    return future is None or future.done()


def _create_executor(num_workers: int) -> ProcessPoolExecutor:
    return create_pool(num_workers, [__name__, *_PRELOADED], torch.set_num_threads, (1,))
