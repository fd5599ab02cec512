"""Workers on a cluster of Ray: each loads what it needs once, then does one group of items after the other.

A worker that is killed is started again, and its group given to another. A group at which workers ended three
times is given up; what it held is tried again item by item, so that one recording takes no other with it.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import signal
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from polsess.dependencies import require
from polsess.system_errors import one_line

LOCAL = "local"
"""In place of an address: processes of this machine, for as long as the command runs."""

Item = Any
"""What JSON holds: a number, a text, or lists and dictionaries of such."""
Work = Callable[[Item], Any]
"""What a worker does with an item; the result is what JSON holds."""
Prepare = Callable[[str], Work]
"""Called once in each worker, with its device: cpu or cuda."""

_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",  # it would call home
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
_RETRIES = 2
_ROUND_GROUPS = 10_000
"""Groups that Ray is given at once; each takes some kilobytes of this process."""
_STORE_BYTES = 256 * 2**20
"""Memory of a local cluster for what its processes hand each other."""


@dataclass(frozen=True)
class Failed:
    """An item that no worker could finish."""

    reason: str


@dataclass(frozen=True)
class Cluster:
    """A cluster that this process is connected to; see ``connected``."""

    device: str
    """Of the workers: cpu or cuda."""

    def map(
        self, prepare: Prepare, groups: Sequence[Sequence[Item]], *, in_order: bool = False
    ) -> Iterator[tuple[Item, Any | Failed]]:
        """Do work on all items, and give each with its result as soon as its group is done.

        Args:
            prepare: Makes the function that does the work.
            groups: The items; those of a group are done by one worker, one after the other.
            in_order: Whether results come in the order of the items; then every item is its own group.
        """
        for start in range(0, len(groups), _ROUND_GROUPS):
            missing: list[Item] = []
            for item, result in self._pass(prepare, groups[start : start + _ROUND_GROUPS], in_order):
                if isinstance(result, Failed) and not in_order:
                    missing.append(item)
                else:
                    yield item, result
            yield from self._pass(prepare, [[item] for item in missing], in_order) if missing else ()

    def _pass(
        self, prepare: Prepare, groups: Sequence[Sequence[Item]], in_order: bool
    ) -> Iterator[tuple[Item, Any | Failed]]:
        given_up = Failed("the process that worked on it ended each time; it may need too much memory")
        left = dict(enumerate(groups))
        for number, results in self._results(prepare, groups, in_order):
            for early in [each for each in left if each < number] if in_order else ():
                yield from ((item, given_up) for item in left.pop(early))
            if number in left:
                yield from zip(left.pop(number), results, strict=True)
        for group in left.values():
            yield from ((item, given_up) for item in group)

    def _results(
        self, prepare: Prepare, groups: Sequence[Sequence[Item]], in_order: bool
    ) -> Iterator[tuple[int, list[Any | Failed]]]:
        ray = require("ray", "--ray")
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = context.print_on_execution_start = False
        context.max_errored_blocks = -1
        context.execution_options.preserve_order = in_order
        rows = [{"number": number, "items": json.dumps(group)} for number, group in enumerate(groups)]
        with warnings.catch_warnings():  # of limits to retries that Ray 2.64 will not have
            warnings.simplefilter("ignore", DeprecationWarning)
            done = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
                _Worker,
                fn_constructor_args=[[ray.put(prepare)], self.device],
                batch_size=None,
                batch_format="numpy",
                compute=ray.data.ActorPoolStrategy(min_size=1, initial_size=self._num_workers(len(groups))),
                ray_remote_args_fn=_retries,
                num_cpus=1,
                num_gpus=1 if self.device == "cuda" else None,
            )
        for row in done.iter_rows():
            results = json.loads(row["results"])
            yield (
                int(row["number"]),
                [each["result"] if "result" in each else Failed(each["error"]) for each in results],
            )

    def _num_workers(self, num_groups: int) -> int:
        free = require("ray", "--ray").available_resources().get("GPU" if self.device == "cuda" else "CPU", 1)
        return max(1, min(int(free), num_groups))


def _retries() -> dict[str, Any]:
    return {"max_restarts": -1, "max_task_retries": _RETRIES}


class _Worker:
    """An actor of Ray."""

    def __init__(self, prepare: list[Any], device: str) -> None:
        self._work: Work = require("ray", "--ray").get(prepare[0])(device)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        results = [json.dumps([self._try(item) for item in json.loads(items)]) for items in batch["items"]]
        return {"number": list(batch["number"]), "results": results}

    def _try(self, item: Item) -> dict[str, Any]:
        try:
            return {"result": self._work(item)}
        except Exception as error:  # of one item; the others are done
            return {"error": " ".join(one_line(error).split())}


@contextmanager
def connected(address: str, device: str = "auto") -> Iterator[Cluster]:
    """Connect to a cluster, or start one on this machine, which ends with the block.

    Args:
        address: ``local``, ``auto`` for a cluster that this machine belongs to, ``host:port`` or
            ``ray://host:port``.
        device: Of the workers: cpu, cuda, or auto for cuda where the cluster has GPUs.

    Raises:
        ModuleNotFoundError: If Ray is not installed.
        ConnectionError: If there is no such cluster.
        ValueError: If the cluster has no such device.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    ray = require("ray", "--ray")
    importlib.import_module("ray.data")
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    own: dict[str, Any] = {}
    if address == LOCAL:
        own = {"object_store_memory": _STORE_BYTES, "include_dashboard": False}
    asked = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **own)
    except (ConnectionError, RuntimeError, ValueError) as error:
        text = " ".join(str(error).split())[:300]
        raise ConnectionError(f"--ray {address}: there is no cluster to connect to ({text}).") from None
    try:
        signal.signal(signal.SIGTERM, asked)  # Ray takes it for itself
        yield Cluster(_pick(device, ray.cluster_resources()))
    finally:
        ray.shutdown()


def _pick(device: str, resources: dict[str, float]) -> str:
    has_gpu = resources.get("GPU", 0) >= 1
    if device == "auto":
        return "cuda" if has_gpu else "cpu"
    if device not in ("cpu", "cuda"):
        raise ValueError(f"--device {device}: on a cluster, expected auto, cpu or cuda.")
    if device == "cuda" and not has_gpu:
        raise ValueError("--device cuda: no machine of the cluster has a GPU; use auto or cpu.")
    return device


def group_by_length(
    items: Iterable[Item], seconds: Callable[[Item], float], group_seconds: float
) -> list[list[Item]]:
    """Groups of items that are about equally long together, the longest first, so that no worker ends late.

    Args:
        items: Any.
        seconds: How long the sound of an item is.
        group_seconds: Groups are not longer, unless by one item alone.
    """
    groups: list[list[Item]] = []
    room = 0.0
    for item in sorted(items, key=seconds, reverse=True):
        length = seconds(item)
        if not groups or length > room:
            groups.append([])
            room = group_seconds
        groups[-1].append(item)
        room -= length
    return groups
