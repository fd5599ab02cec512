"""The parent's end of a worker: ask, wait, and say why when no answer comes."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

OURS = (sys.executable, "-m", "polsess.benchmark.workers.ours")
PEER_SCRIPT = Path(__file__).parent / "workers" / "peer.py"
START_SECONDS = 900.0


class WorkerError(RuntimeError):
    """A worker could not do what it was asked for; the message is the reason alone."""


class Worker:
    """A process that answers JSON with JSON, one line each.

    Args:
        command: What to run; a fixed program of ours.
        threads: For the libraries that read it from the environment.
        allocator: ``tuned`` or ``default``, see ``polsess.allocator``.
    """

    def __init__(self, command: Sequence[str], *, threads: int, allocator: str = "tuned") -> None:
        self._complaints = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed in close()
        self._process = subprocess.Popen(  # noqa: S603 - our own program, no shell
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            text=True,
            env=_environment(threads, allocator),
        )
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, command: str, timeout_seconds: float = START_SECONDS, **request: Any) -> dict[str, Any]:
        """Send a request and wait for its answer.

        Raises:
            WorkerError: If the worker reports an error, ends, or takes longer than it may; it is then ended.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": command, **request}) + "\n")
            self._process.stdin.flush()
            line = self._lines.get(timeout=timeout_seconds)
        except queue.Empty:
            self.close()
            raise WorkerError(f"stopped after {timeout_seconds:.0f} s") from None
        except OSError:
            line = ""
        if not line:
            raise WorkerError(self._how_it_ended())
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer

    def close(self) -> None:
        """End the process."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._complaints):
            assert stream is not None
            try:
                stream.close()
            except OSError:  # what was not sent is not needed
                continue

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as answers:
            for line in answers:
                self._lines.put(line)
        self._lines.put("")

    def _how_it_ended(self) -> str:
        code = self._process.wait(timeout=START_SECONDS)
        if code < 0:
            reason = signal.Signals(-code).name
            memory = ", most likely because memory ran out" if reason == "SIGKILL" else ""
            return f"the process was ended by {reason}{memory}"
        self._complaints.seek(0)
        lines = self._complaints.read().strip().splitlines() or ["no message"]
        return f"the process ended with code {code}: {lines[-1][:300]}"


def _environment(threads: int, allocator: str) -> Mapping[str, str]:
    numbers = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    return {**os.environ, **numbers, "POLSESS_ALLOCATOR": allocator, "PYTHONWARNINGS": "ignore"}
