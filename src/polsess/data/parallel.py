"""One function over many items in several processes, results in order."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def default_workers() -> int:
    """Processes that this machine has cores for."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_parallel(
    function: Callable[[Item], Result],
    items: Sequence[Item] | Iterable[Item],
    num_workers: int,
    *,
    initializer: Callable[..., None] | None = None,
    arguments: tuple[Any, ...] = (),
    chunksize: int = 1,
) -> Iterator[Result]:
    """Results in the order of the items, as they come.

    Args:
        function: At the top level of a module, as for any process pool.
        items: What it is called with.
        num_workers: Processes; 1 and less work in this one.
        initializer: Called once in every process before anything else.
        arguments: What it is called with.
        chunksize: Items that go to a process at once.
    """
    if num_workers <= 1:
        if initializer is not None:
            initializer(*arguments)
        yield from map(function, items)
        return
    methods = multiprocessing.get_all_start_methods()  # forking a process with threads can hang
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    context.set_forkserver_preload([function.__module__])  # imported once, not by every process
    pool = ProcessPoolExecutor(num_workers, context, initializer, arguments)
    try:
        yield from pool.map(function, items, chunksize=chunksize)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
