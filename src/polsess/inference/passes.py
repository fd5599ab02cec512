"""Passes of one network that pieces of several recordings share, as many as the free memory holds.

A separation is a course: a generator that yields batches of rows for the network, receives the estimates of
each, and yields None once where what is left needs no network. Courses that run together wait for each other
at the network, so that which pieces share a pass does not depend on time; the batches of one course go
through it side by side.

Shapes: B batch, C sources, n samples.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from polsess.audio import Samples
from polsess.inference.network import CountingEstimator, Estimator, SeparationError, SpeakerCount
from polsess.inference.side_by_side import ONE_THREAD, Threads, side_by_side
from polsess.machine import free_memory, process_memory
from polsess.system_errors import shortage_of_memory

Result = TypeVar("Result")
Course = Generator[list[Samples] | None, list[Samples] | None, Result]
"""Yields batches ``[B, n]`` of any lengths, receives ``[B, C, n]`` of each; yields None before the part that
needs no network."""
Asking = Generator[list[Samples], list[Samples] | None, Result]
"""A part of a course that needs the network to its end."""
_MEMORY_SHARE = 0.5
"""Of the memory that is free, what one pass may take on a CPU, where the system ends who takes too much."""
_ASSUMED_BYTES = 8192.0
"""Of a sample of a row, until a pass has shown what the network takes: about what the hungriest do."""


class Passes:
    """Runs courses with a network.

    Args:
        estimator: The network.
        batch_size: Most rows per pass; becomes smaller where the memory turns out not to hold as many.
        threads: For passes side by side; one where the memory turns out not to hold several.
    """

    def __init__(self, estimator: Estimator, batch_size: int, threads: Threads = ONE_THREAD) -> None:
        self.estimator, self.batch_size, self.threads = estimator, batch_size, threads
        self._bytes_per_sample = _ASSUMED_BYTES

    def alone(self, course: Course[Result]) -> Result:
        """Run one course to its end."""
        (error,) = self.advance([course])
        if error is not None:
            raise error
        return finish(course)

    def advance(self, courses: Sequence[Course[Result]]) -> list[Exception | None]:
        """Run courses together as far as they need the network.

        Returns:
            The error that ended each; None for those that are to be finished.
        """
        errors: list[Exception | None] = [None] * len(courses)
        waiting: dict[int, list[Samples]] = {}

        def step(index: int, answer: list[Samples] | Exception | None) -> None:
            course = courses[index]
            try:
                asked = course.throw(answer) if isinstance(answer, Exception) else course.send(answer)
            except Exception as error:
                errors[index] = error
            else:
                if asked is not None:
                    waiting[index] = asked

        try:
            for index in range(len(courses)):
                step(index, None)
            while waiting:
                together = self._pick(waiting)
                answers = self._answers([waiting.pop(index) for index in together])
                for index, answer in zip(together, answers, strict=True):
                    step(index, answer)
        except BaseException:
            for course in courses:
                course.close()
            raise
        return errors

    def split(self, rows: Samples, run: Callable[[Samples], Samples]) -> Samples:
        """What a function makes of rows ``[B, n]``, several at once as far as the memory holds them.

        Raises:
            SeparationError: If the memory does not suffice for one row.
        """
        done: list[Samples] = []
        while rows.size:
            batch = rows[: self._fitting(rows)]
            before = process_memory()
            try:
                done.append(run(batch))
            except (RuntimeError, MemoryError) as error:
                if (shortage := shortage_of_memory(error)) is None:
                    raise
                if len(batch) == 1:
                    raise self._too_long(batch, shortage) from None
                self.batch_size = (len(batch) + 1) // 2  # also for the pieces to come
                continue
            self._learn(batch, before)
            rows = rows[len(batch) :]
        return np.concatenate(done)

    def _pick(self, waiting: dict[int, list[Samples]]) -> list[int]:
        """The course that has waited longest, and those that go with it if it waits for a single batch."""
        first, *others = waiting
        rows, *more = waiting[first]
        chosen, num_rows = [first], len(rows)
        for index in others if not more else ():
            other, *more = waiting[index]
            equal = not more and other.shape[-1] == rows.shape[-1]
            if equal and num_rows + len(other) <= self.batch_size:
                chosen.append(index)
                num_rows += len(other)
        return chosen

    def _answers(self, asked: Sequence[list[Samples]]) -> list[list[Samples] | Exception]:
        """The estimates of batches of courses, or why there are none; none fails because of another."""
        if len(asked) == 1:
            try:
                return [self._side_by_side(asked[0])]
            except Exception as error:
                return [error]
        batches = [rows for (rows,) in asked]
        try:
            estimates = self.split(np.concatenate(batches), self.estimator.estimate)
        except Exception:
            return [answer for each in asked for answer in self._answers([each])]
        edges = np.cumsum([len(rows) for rows in batches])[:-1]
        return [[each] for each in np.split(estimates, edges)]

    def _side_by_side(self, batches: list[Samples]) -> list[Samples]:
        """The estimates of batches, several at once as far as the memory holds them."""
        largest = sorted(rows.size for rows in batches)[-self.threads.calls :]
        free = free_memory()
        fit = free is None or sum(largest) * self._bytes_per_sample <= _MEMORY_SHARE * free
        estimate = partial(self.split, run=self.estimator.estimate)
        return list(side_by_side(estimate, batches, self.threads if fit else ONE_THREAD))

    def _fitting(self, rows: Samples) -> int:
        """How many of the rows go through the network at once."""
        size, free = min(len(rows), self.batch_size), free_memory()
        if size == 1 or self.estimator.place != "cpu" or free is None:
            return size
        return max(1, min(size, int(_MEMORY_SHARE * free / (self._bytes_per_sample * rows.shape[-1]))))

    def _learn(self, batch: Samples, before: tuple[int, int] | None) -> None:
        """Find out what a sample takes: at most the peak of the process above what it held before."""
        after = process_memory()
        if before is not None and after is not None:
            taken = max(1.0, (after[1] - before[0]) / batch.size)
            self._bytes_per_sample = min(taken, self._bytes_per_sample)

    def _too_long(self, batch: Samples, shortage: str) -> SeparationError:
        seconds = batch.shape[-1] / self.estimator.sample_rate
        return SeparationError(
            f"a piece of {seconds:.1f} s does not fit in the memory of {self.estimator.place}: {shortage}; "
            f"choose shorter pieces (--segment {seconds / 2:.0f}) or a smaller model."
        )


def finish(course: Course[Result]) -> Result:
    """Run a course to its end, from where it needs no network any more."""
    try:
        course.send(None)
    except StopIteration as end:
        result: Result = end.value
        return result
    raise RuntimeError("A course asked for the network after it had said that it needs it no more.")


class RecordingNetwork:
    """A network that is ready for one recording.

    Args:
        passes: Passes through the network.
        recording: Name of the recording, for messages.
    """

    def __init__(self, passes: Passes, recording: str) -> None:
        self._passes, self._recording = passes, recording
        self._estimator = estimator = passes.estimator
        self.num_sources, self.sample_rate = estimator.output_sources, estimator.sample_rate
        self.num_speakers = 0, estimator.output_sources
        """The fewest and the most speakers that are separated, where the network counts them."""
        self._most, self._at_most = 0, np.ones(estimator.output_sources + 1)

    @property
    def batch_size(self) -> int:
        """Rows per pass."""
        return self._passes.batch_size

    @property
    def passes_at_once(self) -> int:
        """How many run side by side."""
        return self._passes.threads.calls

    def estimate(self, batches: Sequence[Samples], starts: Sequence[list[int]]) -> Asking[list[Samples]]:
        """Estimates ``[B, C, n]`` of batches of mixtures ``[B, n]``; digital silence needs no network.

        Args:
            batches: Of any lengths and numbers of rows; at most ``batch_size`` rows go through the network at
                once.
            starts: The sample of the recording at which each row of each batch begins, for messages.

        Raises:
            SeparationError: If the network returns NaN or infinity, or the memory does not suffice.
        """
        estimates = [np.zeros((len(rows), self.num_sources, rows.shape[-1]), np.float32) for rows in batches]
        places = [(each, chosen) for each, rows in enumerate(batches) for chosen in self._audible(rows)]
        asked = [batches[each][chosen] for each, chosen in places]
        if isinstance(self._estimator, CountingEstimator):
            count = partial(self._count, self._estimator)
            answers = [self._passes.split(rows, count) for rows in asked]
        else:
            answers = ((yield asked) if asked else None) or []  # whoever runs the course answers
        for (each, chosen), answer in zip(places, answers, strict=True):
            estimates[each][chosen] = answer
        for batch, begins in zip(estimates, starts, strict=True):
            for row, start in zip(batch, begins, strict=True):
                if not np.isfinite(row).all():
                    raise SeparationError(
                        f"{self._recording}: the model returned NaN or infinity in the segment at "
                        f"{start / self.sample_rate:.1f} s; nothing was written. Check the weights, or use "
                        "another model."
                    )
        return estimates

    def _audible(self, rows: Samples) -> list[NDArray[np.int64]]:
        """The rows that are not silent, as many together as go through the network at once."""
        audible, size = np.flatnonzero(rows.any(1)), self.batch_size
        return [audible[first : first + size] for first in range(0, len(audible), size)]

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
