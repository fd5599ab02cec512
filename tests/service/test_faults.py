"""What was accepted is finished or reported failed, whoever is killed."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.service.running import Running, running, tone


def begun(service: Running, job: str) -> None:
    """Wait until a worker works on a job."""
    deadline = time.monotonic() + 120
    while service.ask("GET", f"/v1/jobs/{job}").json["files"][0]["status"] != "running":
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.timeout(900)  # it starts two services and three workers
def test_a_killed_worker_and_a_killed_server_lose_and_double_nothing(tmp_path: Path) -> None:
    sound = tone(tmp_path / "long.wav", 30.0).read_bytes()
    short = tone(tmp_path / "short.wav", 0.5).read_bytes()
    settings: dict[str, Any] = {
        "lanes": 1,
        "segment_seconds": 1.0,
        "limits": {"max_queued": 3, "min_free_bytes": 0},
    }
    with running(tmp_path / "service", **settings) as service:
        jobs = [service.submit(("long.wav", sound), gate="never"), service.submit(("b.wav", short))]
        begun(service, jobs[0])
        os.kill(service.workers()[-1], signal.SIGKILL)
        jobs.append(service.submit(("c.wav", short)))
        full = service.post("/v1/jobs", *[("d.wav", short)] * 3)
        assert full.status == 503
        assert int(full.headers["retry-after"]) >= 1
        begun(service, jobs[0])
        service.kill()
    with running(tmp_path / "service", **settings) as service:
        assert [service.wait(job)["status"] for job in jobs] == ["done"] * 3
        assert sorted(each["job"] for each in service.events("ended")) == sorted(jobs)
        deleted = service.submit(("long.wav", sound), gate="never")
        begun(service, deleted)
        assert service.ask("DELETE", f"/v1/jobs/{deleted}").status == 204
        assert service.wait(service.submit(("e.wav", short)))["status"] == "done"
        assert not [*(tmp_path / "service" / "data" / "jobs").glob(f"{deleted}*")]
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(60) == 0
        assert service.events("stopped")
