"""Threads that finish courses: files are written while the network is at work on the next recordings."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, Self, TypeVar

from polsess.inference.passes import Course, Result, finish

Key = TypeVar("Key", bound=Hashable)
_THREADS = 2
_MOST_WAITING = 16
_MOST_BYTES = 1 << 24


@dataclass
class _Begun(Generic[Key, Result]):
    """A course on its way."""

    key: Key
    num_bytes: int
    course: Course[Result] | Exception
    future: Future[Result] | None = None
    """Its end in a thread; None where it is finished when its result is asked for."""

    def outcome(self) -> Result | Exception:
        """The result, or the error of the recording; others are raised."""
        try:
            if isinstance(self.course, Exception):
                return self.course
            return finish(self.course) if self.future is None else self.future.result()
        except Exception as error:
            return error


class Finishing(Generic[Key, Result]):
    """Courses that need the network no more, and their results in the order in which they came.

    Within a ``with`` block; at its end those that are begun are finished, the others are given up.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, "finishing")
        self._waiting: deque[_Begun[Key, Result]] = deque()

    def add(self, key: Key, num_bytes: int, course: Course[Result] | Exception, last: bool) -> None:
        """Take a course, or the error that ended it.

        Args:
            key: Of its result.
            num_bytes: About the size of its recording.
            course: What is to be finished.
            last: Whether nothing is left for the network. Then no thread is needed, and signals are heeded at
                once.
        """
        begun = _Begun(key, num_bytes, course)
        if not last and not isinstance(course, Exception):
            begun.future = self._threads.submit(finish, course)
        self._waiting.append(begun)

    def results(self, coming_bytes: int | None = None) -> Iterator[tuple[Key, Result | Exception]]:
        """The first results, as soon as they are there.

        Args:
            coming_bytes: Size of the recordings that come next: results are given until there is room. None
                for all results.
        """
        while self._waiting:
            first, held = self._waiting[0], sum(each.num_bytes for each in self._waiting)
            full = len(self._waiting) >= _MOST_WAITING or held + (coming_bytes or 0) > _MOST_BYTES
            if coming_bytes is not None and not full and first.future and not first.future.done():
                return
            outcome = first.outcome()
            self._waiting.popleft()
            yield first.key, outcome

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown(cancel_futures=True)
        for each in self._waiting:
            if not isinstance(each.course, Exception) and (each.future is None or each.future.cancelled()):
                each.course.close()
