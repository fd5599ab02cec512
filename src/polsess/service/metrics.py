"""What Prometheus may ask a service: its queue, its latencies, its speed and its memory."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_LATENCIES = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_FACTORS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 2, 5, 10)


class Metrics:
    """The metrics of one service."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Histogram(
            "polsess_request_seconds",
            "Time from a request to the end of its answer.",
            ["method", "route", "status"],
            buckets=_LATENCIES,
            registry=registry,
        )
        self.queue = Gauge("polsess_files", "Recordings by their status.", ["status"], registry=registry)
        self.workers = Gauge("polsess_workers_ready", "Workers with their models loaded.", registry=registry)
        self.restarts = Gauge(
            "polsess_worker_restarts", "Workers that were started again.", registry=registry
        )
        self.memory = Gauge(
            "polsess_memory_bytes", "Resident memory of the processes.", ["process"], registry=registry
        )
        self.work = Histogram(
            "polsess_work_seconds",
            "Time that a worker took for a recording.",
            buckets=_LATENCIES,
            registry=registry,
        )
        self.factor = Histogram(
            "polsess_realtime_factor",
            "Seconds of work per second of sound.",
            buckets=_FACTORS,
            registry=registry,
        )
        self.sound = Counter("polsess_sound_seconds", "Sound that was separated.", registry=registry)
        self.failures = Counter("polsess_failed_files", "Recordings that failed.", registry=registry)

    def ended(self, event: dict[str, Any]) -> None:
        """Count a recording that a worker ended."""
        self.work.observe(event["work_seconds"])
        if event["error"] is not None:
            self.failures.inc()
            return
        self.sound.inc(event["sound_seconds"])
        self.factor.observe(event["work_seconds"] / event["sound_seconds"])

    def render(self, pids: Iterable[int]) -> bytes:
        """The text for Prometheus.

        Args:
            pids: The workers.
        """
        self.memory.labels("server").set(resident_bytes(os.getpid()))
        self.memory.labels("workers").set(sum(resident_bytes(pid) for pid in pids))
        return generate_latest(self._registry)


def resident_bytes(pid: int) -> int:
    """Resident memory of a process; 0 where the system does not say or the process has ended."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
    except (OSError, IndexError):
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
