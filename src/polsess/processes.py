"""Number of usable processors, and one function applied to many items in several processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def num_processors() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def create_pool(
    num_workers: int,
    preloaded: Sequence[str] = (),
    initializer: Callable[..., None] | None = None,
    arguments: tuple[Any, ...] = (),
) -> ProcessPoolExecutor:
    """Start processes that are no copies of this one, which may hold threads of torch and a GPU.

    Where the system can, they are copies of a clean process, which imports large packages once for all of
    them. Ctrl-C and a closed terminal are left to this process, with which they end, even if it is killed.

    Args:
        num_workers: Number of processes.
        preloaded: Names of the modules that the clean process imports.
        initializer: Function that each process calls before anything else.
        arguments: Arguments of that function.
    """
    if "forkserver" in multiprocessing.get_all_start_methods():
        context: Any = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(list(preloaded))
    else:
        context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(num_workers, context, _start, (initializer, arguments))


def _start(initializer: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    if initializer is not None:
        initializer(*arguments)


def _end_with_parent() -> None:
    """A pool's process that waits for work would never notice that nobody is left to send any."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def map_parallel(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    num_workers: int,
    *,
    initializer: Callable[..., None] | None = None,
    arguments: tuple[Any, ...] = (),
    chunksize: int = 1,
) -> Iterator[Result]:
    """Call a function with each item and return the results in the order of the items, as they arrive.

    Args:
        function: Function at the top level of a module, as every process pool needs it.
        items: Arguments of the calls.
        num_workers: Number of processes; with 1 or less the work is done in this one.
        initializer: Function that each process calls before anything else.
        arguments: Arguments of that function.
        chunksize: Number of items that a process receives at once.
    """
    if num_workers <= 1:
        if initializer is not None:
            initializer(*arguments)
        yield from map(function, items)
        return
    pool = create_pool(num_workers, [function.__module__], initializer, arguments)
    try:
        yield from pool.map(function, items, chunksize=chunksize)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
