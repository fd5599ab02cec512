"""The worker processes as the server sees them: started, listened to, started again when they end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from polsess.service.logs import log
from polsess.service.settings import ServiceConfig
from polsess.service.store import Store
from polsess.workers import Worker, WorkerError

_PROBE_SECONDS = 30.0
_PAUSES = (0.0, 0.0, 1.0, 5.0, 30.0)
"""Before a worker is started again that ended before it was ready, by how often in a row."""

Listener = Callable[[dict[str, Any]], None]


class WorkerPool:
    """All workers of a service.

    Args:
        config: Of the service.
        store: The jobs.
        listener: Called with every line of every worker, in threads of their own.
    """

    def __init__(self, config: ServiceConfig, store: Store, listener: Listener) -> None:
        self._config, self._store, self._listener = config, store, listener
        self._processes: dict[int, subprocess.Popen[str]] = {}
        self._ready: set[int] = set()
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._attend, args=(place,), daemon=True)
            for place in range(config.workers)
        ]
        self.restarts = 0

    def start(self) -> None:
        """Start the processes; what an earlier service left at work waits again."""
        for job in self._store.release():
            log("resumed", job=job)
        for thread in self._threads:
            thread.start()

    @property
    def num_ready(self) -> int:
        """Workers that have loaded their models."""
        return len(self._ready)

    def pids(self) -> list[int]:
        """The processes that are alive."""
        return [process.pid for process in [*self._processes.values()] if process.poll() is None]

    def wake(self) -> None:
        """Say that something waits."""
        self._send("wake")

    def stop(self) -> None:
        """Let the work at hand end, for as long as the configuration gives it; then end the processes."""
        self._stopping.set()
        self._send("drain")
        deadline = time.monotonic() + self._config.grace_seconds
        for process in [*self._processes.values()]:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(10)

    def _send(self, word: str) -> None:
        for process in [*self._processes.values()]:
            assert process.stdin is not None
            try:
                process.stdin.write(f"{word}\n")
                process.stdin.flush()
            except (OSError, ValueError):  # it has ended, and its attendant knows
                continue

    def _attend(self, place: int) -> None:
        """Keep one worker running."""
        failures = 0
        while not self._stopping.is_set():
            worker = uuid.uuid4().hex[:12]
            begin, code = time.monotonic(), self._run(place, worker)
            failures = 0 if place in self._ready else failures + 1
            self._ready.discard(place)
            self._put_back(worker)
            if self._stopping.is_set():
                return
            self.restarts += 1
            log(
                "worker ended",
                level="error",
                worker=worker,
                code=code,
                seconds=round(time.monotonic() - begin, 1),
            )
            self._stopping.wait(_PAUSES[min(failures, len(_PAUSES) - 1)])

    def _put_back(self, worker: str) -> None:
        """What the worker held waits again; on a full disk, once there is room."""
        while True:
            try:
                for job in self._store.release(worker):
                    self._listener({"event": "changed", "job": job})
                break
            except Exception as error:
                log("store", level="error", reason=str(error))
                if self._stopping.wait(1.0):
                    return
        self._send("wake")

    def _run(self, place: int, worker: str) -> int:
        given = {"config": self._config.model_dump(mode="json"), "worker": worker}
        process = subprocess.Popen(  # noqa: S603 - our own program, no shell
            [sys.executable, "-m", "polsess.service.worker", json.dumps(given)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
            start_new_session=True,  # Ctrl-C is the server's
        )
        self._processes[place] = process
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                try:
                    event = json.loads(line)
                except ValueError:  # the line of a process that was killed
                    continue
                if event["event"] == "ready":
                    self._ready.add(place)
                    log("worker ready", worker=worker, pid=process.pid, device=event["device"])
                else:
                    self._listener(event)
        return process.wait()


class Probe:
    """Looks into sound files in a process of its own, which is started again if a file ends it."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._worker: Worker | None = None

    def start(self) -> None:
        """Start the process, so that the first file need not wait for it."""
        with self._lock:
            if self._worker is None:
                self._worker = Worker([sys.executable, "-m", "polsess.service.probe"], threads=1)

    def look(self, path: Path) -> dict[str, Any]:
        """The facts of a file, or ``refused`` with the reason and ``status`` with that of HTTP."""
        with self._lock:
            self.start()
            assert self._worker is not None
            try:
                return self._worker.ask("probe", _PROBE_SECONDS, path=str(path))
            except WorkerError as error:
                self._worker.close()
                self._worker = None
                return {"refused": f"its decoder failed: {error}.", "status": 422}

    def close(self) -> None:
        """End the process."""
        with self._lock:
            if self._worker is not None:
                self._worker.close()
                self._worker = None
