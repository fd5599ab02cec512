"""Worker processes that answer requests: one line of JSON for each, over stdin and stdout.

Needs the standard library only, so that a process of another environment can import this file.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

Answer = dict[str, Any]
Commands = Mapping[str, Callable[[Answer], Answer]]

START_SECONDS = 900.0


class WorkerError(RuntimeError):
    """A worker could not answer a request; the message is the reason alone."""


class Worker:
    """The parent's side of a worker process.

    Args:
        command: Program and arguments of the process, which calls ``serve``.
        threads: Number of threads, for the libraries that read it from the environment.
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

    def ask(self, command: str, timeout_seconds: float = START_SECONDS, **request: Any) -> Answer:
        """Send a request and wait for its answer.

        Raises:
            WorkerError: If the worker reports an error, ends, or takes too long, after which it is ended.
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
        answer: Answer = json.loads(line)
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
            except OSError:  # a request that was not sent is not needed
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


def serve(commands: Commands) -> None:
    """Answer the parent's requests until stdin ends; call it as the process's last step.

    A request names its command in ``do``. A command that fails answers ``{"error": ...}``, so that the
    process remains usable. Text that a command prints goes to stderr.

    Args:
        commands: Functions by their names; each takes the request and returns the answer.
    """
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = commands[request.pop("do")](request)
        except Exception as error:  # any failure is the answer
            answer = {"error": _explain(error)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _explain(error: Exception) -> str:
    text = " ".join(str(error).split())[:300]
    if isinstance(error, MemoryError) or "can't allocate memory" in text or "out of memory" in text.lower():
        return f"out of memory ({text})"
    return f"{type(error).__name__}: {text}"


def _environment(threads: int, allocator: str) -> Mapping[str, str]:
    numbers = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    return {**os.environ, **numbers, "POLSESS_ALLOCATOR": allocator, "PYTHONWARNINGS": "ignore"}
