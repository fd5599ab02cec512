"""Calls of networks side by side, each on a processor of its own.

A small network gains little from several threads for one call, and nearly their number from as many calls.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
_MOST_CALLS = 4
"""At once, since each needs memory; where there are more threads, each call gets several."""


@dataclass(frozen=True)
class Threads:
    """The threads that calls of networks share."""

    number: int
    limit: Callable[[int], None]
    """Sets how many threads a call takes for itself if it comes from the thread in which this is called; what
    it sets last, threads begin with that are new."""

    @property
    def calls(self) -> int:
        """How many calls run at once."""
        return min(self.number, _MOST_CALLS)


ONE_THREAD = Threads(1, lambda _: None)


def side_by_side(call: Callable[[Item], Result], items: Iterable[Item], threads: Threads) -> Iterator[Result]:
    """What a function makes of items, in their order.

    With one thread, or for a single item, the function runs in the calling thread. Else it must bear to run
    in several at once. Items are taken in the calling thread, few of them before their turn. An error of one
    ends the others, as does whoever takes no more results: those that have begun are waited for.

    Args:
        call: The function.
        items: What it is called with.
        threads: How many run at once.
    """
    items = iter(items)
    first = list(islice(items, min(threads.calls, 2)))
    if len(first) < 2:
        yield from map(call, chain(first, items))
        return
    waiting: deque[Future[Result]] = deque()
    with _workers(threads) as workers:
        for item in chain(first, items):
            waiting.append(workers.submit(call, item))
            if len(waiting) > threads.calls:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


@contextmanager
def _workers(threads: Threads) -> Iterator[ThreadPoolExecutor]:
    """Threads for calls, each of which takes its share; what they have not begun is dropped at the end."""
    all_here = threading.Barrier(threads.calls)

    def begin() -> None:
        all_here.wait()  # so that none takes the place of another
        threads.limit(threads.number // threads.calls)

    workers = ThreadPoolExecutor(threads.calls, "side by side")
    try:
        wait([workers.submit(begin) for _ in range(threads.calls)])
        threads.limit(threads.number)
        yield workers
    finally:
        all_here.abort()
        workers.shutdown(cancel_futures=True)
