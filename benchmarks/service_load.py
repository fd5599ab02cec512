"""A service under load and under faults: what it answers, how fast, and what it grows by.

    python benchmarks/service_load.py recordings/ --clients 1 8 32 --seconds 60
    python benchmarks/service_load.py recordings/ --clients 8 --seconds 600 --kill-every 20
    python benchmarks/service_load.py recordings/ --compare

It starts `polsess serve` in a folder of its own. Clients send one recording after the other as jobs, wait,
fetch the zip and delete the job; every fourth goes to /v1/separate. ``--kill-every`` kills a worker or the
server at random with SIGKILL. ``--compare`` sends all recordings at once and runs `polsess separate` on them,
in turn.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import http.client
import io
import json
import os
import random
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from polsess.audio import list_sounds, read_audio, read_audio_info, write_audio
from polsess.service.metrics import resident_bytes
from tests.service.running import Running, running

_SAMPLE_SECONDS = 60.0


class Load:
    """Clients that work until a time, and what they saw."""

    def __init__(self, folder: Path, recordings: Sequence[Path], settings: dict[str, Any]) -> None:
        self.folder, self.settings = folder, settings
        self.contents = [(path.name, path.read_bytes()) for path in recordings]
        self.seconds_of = {path.name: read_audio_info(path).duration_seconds for path in recordings}
        self.statuses: collections.Counter[str] = collections.Counter()
        self.latencies: list[float] = []
        self.sound_seconds = 0.0
        self.accepted: dict[str, str] = {}
        self.service: Running | None = None
        self.stack = contextlib.ExitStack()
        self.lock = threading.Lock()
        self.until = 0.0

    def client(self, seed: int) -> None:
        """One client."""
        draw = random.Random(seed)
        while time.monotonic() < self.until:
            name, content = draw.choice(self.contents)
            begin = time.monotonic()
            try:
                done = self.direct(name, content) if draw.random() < 0.25 else self.job(name, content)
            except (OSError, http.client.HTTPException):
                with self.lock:
                    self.statuses["connection lost"] += 1
                time.sleep(0.5)
                continue
            if done:
                with self.lock:
                    self.latencies.append(time.monotonic() - begin)
                    self.sound_seconds += self.seconds_of[name]

    def count(self, kind: str, status: int) -> None:
        """Count an answer."""
        with self.lock:
            self.statuses[f"{kind} {status}"] += 1

    def direct(self, name: str, content: bytes) -> bool:
        """Send a recording to /v1/separate."""
        assert self.service is not None
        answer = self.service.post("/v1/separate", (name, content))
        self.count("separate", answer.status)
        if answer.status in (429, 503):
            time.sleep(min(5.0, float(answer.headers["retry-after"])))
            return False
        return answer.status == 200 and zipfile.ZipFile(io.BytesIO(answer.body)).testzip() is None

    def job(self, name: str, content: bytes) -> bool:
        """Send a recording as a job, wait for it, fetch its results and delete it."""
        assert self.service is not None
        answer = self.service.post("/v1/jobs", (name, content))
        self.count("submit", answer.status)
        if answer.status != 202:
            time.sleep(min(5.0, float(answer.headers.get("retry-after", "1"))))
            return False
        job = answer.json["id"]
        with self.lock:
            self.accepted[job] = "open"
        while True:
            try:
                found = self.service.ask("GET", f"/v1/jobs/{job}")
                if found.status != 200:
                    self.accepted[job] = f"lost ({found.status})"
                    return False
                if found.json["status"] in ("done", "failed"):
                    break
            except (OSError, http.client.HTTPException, json.JSONDecodeError):
                with self.lock:
                    self.statuses["connection lost"] += 1
                time.sleep(0.5)
            time.sleep(0.2)
        archive = self.service.ask("GET", f"/v1/jobs/{job}/results.zip")
        self.count("results", archive.status)
        self.count("delete", self.service.ask("DELETE", f"/v1/jobs/{job}").status)
        self.accepted[job] = found.json["status"]
        return archive.status == 200 and zipfile.ZipFile(io.BytesIO(archive.body)).testzip() is None

    def run(self, clients: int, seconds: float, kill_every: float | None) -> dict[str, Any]:
        """Let clients work for some time."""
        self.start()
        before = self.memory()
        self.until = time.monotonic() + seconds
        threads = [threading.Thread(target=self.client, args=(seed,)) for seed in range(clients)]
        begin, kills = time.monotonic(), collections.Counter[str]()
        grown: list[dict[str, int]] = []
        for thread in threads:
            thread.start()
        while time.monotonic() < self.until:
            time.sleep(min(kill_every or 5.0, max(0.1, self.until - time.monotonic())))
            if kill_every and time.monotonic() < self.until:
                kills[self.kill()] += 1
            elif time.monotonic() - begin > _SAMPLE_SECONDS * (len(grown) + 1):
                grown.append(self.memory())
        for thread in threads:
            thread.join(600)
        took, after = time.monotonic() - begin, self.memory()
        left = sum(path.is_file() for path in (self.folder / "data" / "jobs").rglob("*"))
        assert self.service is not None
        self.stack.close()
        ended = collections.Counter(event["job"] for event in self.service.events("ended"))
        return {
            "clients": clients,
            "seconds": round(took, 1),
            "answers": dict(sorted(self.statuses.items())),
            "done": len(self.latencies),
            "p50_seconds": round(statistics.median(self.latencies), 2),
            "p95_seconds": round(sorted(self.latencies)[int(0.95 * (len(self.latencies) - 1))], 2),
            "sound_per_second": round(self.sound_seconds / took, 2),
            "memory_mb": [before, *grown, after],
            "files_left": left,
            "jobs": dict(collections.Counter(self.accepted.values())),
            "ended_twice": sum(count > 1 for count in ended.values()),
            "kills": dict(kills),
        }

    def start(self, port: int | None = None) -> None:
        """Start the service, anew where it was killed."""
        self.stack.close()
        self.service = self.stack.enter_context(running(self.folder, port=port, **self.settings))

    def memory(self) -> dict[str, int]:
        """Megabytes of the server and of its workers."""
        assert self.service is not None
        workers = sum(resident_bytes(pid) for pid in self.service.workers())
        return {"server": resident_bytes(self.service.process.pid) >> 20, "workers": workers >> 20}

    def kill(self) -> str:
        """Kill the latest worker, or every third time the server, which is then started again."""
        assert self.service is not None
        if random.random() < 0.67:
            try:
                os.kill(self.service.workers()[-1], signal.SIGKILL)
            except ProcessLookupError:
                return "none"
            return "worker"
        self.service.kill()
        self.start(self.service.port)
        return "server"


def compare(folder: Path, recordings: Sequence[Path], rounds: int) -> list[dict[str, float]]:
    """Sound per second, and processor time per second of sound, of the service and of the command, in turn.

    The command's time is that of its separations, without its start; its processor time is that of the whole
    process less that of a process that separates one short recording.
    """
    sound = sum(read_audio_info(path).duration_seconds for path in recordings)
    short = folder / "short.wav"
    samples, rate = read_audio(recordings[0])
    write_audio(short, samples[:, :rate], rate)
    rows = []
    limits = {"max_files": len(recordings), "max_queued": len(recordings)}
    with running(folder / "service", limits=limits) as service:
        contents = [(path.name, path.read_bytes()) for path in recordings]
        service.wait(service.submit(contents[0]))  # the first pass of a network is slow
        pids = [service.process.pid, *service.workers()]
        for number in range(rounds):
            if number % 2 == 0:
                served = _served(service, contents, pids)
            command = _commanded(recordings, short)
            if number % 2 == 1:
                served = _served(service, contents, pids)
            rows.append(
                {
                    "service": sound / served[0],
                    "command": sound / command[0],
                    "ratio": command[0] / served[0],
                    "service_cpu": served[1] / sound,
                    "command_cpu": command[1] / sound,
                }
            )
    return rows


def _served(
    service: Running, contents: Sequence[tuple[str, bytes]], pids: Sequence[int]
) -> tuple[float, float]:
    """Seconds that a job took, and seconds of processors in the service and its workers."""
    begin, before = time.monotonic(), sum(map(_cpu_seconds, pids))
    job = service.submit(*contents)
    assert service.wait(job, 3600)["status"] == "done"
    took, spent = time.monotonic() - begin, sum(map(_cpu_seconds, pids)) - before
    service.ask("DELETE", f"/v1/jobs/{job}")
    return took, spent


def _commanded(recordings: Sequence[Path], short: Path) -> tuple[float, float]:
    """The same of the command."""
    seconds, spent = _run_command(recordings)
    return seconds, spent - _run_command([short])[1]


def _run_command(recordings: Sequence[Path]) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "polsess", "separate", *map(str, recordings), "-o", out, "--json"]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        lines = subprocess.run(command, capture_output=True, check=True, text=True).stdout.splitlines()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return sum(json.loads(line)["elapsed_seconds"] for line in lines), spent


def _cpu_seconds(pid: int) -> float:
    """Processor time that a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Run what was asked for and print a line of JSON for each part."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="recordings to send")
    parser.add_argument("--clients", type=int, nargs="*", default=[])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--kill-every", type=float, help="seconds between kills")
    parser.add_argument("--compare", action="store_true", help="against polsess separate")
    parser.add_argument("--rounds", type=int, default=3, help="of --compare")
    parser.add_argument("--most", type=int, default=40, help="recordings to take of the folder")
    arguments = parser.parse_args()
    recordings = list_sounds(arguments.folder).paths[: arguments.most]
    for clients in arguments.clients:
        with tempfile.TemporaryDirectory() as folder:
            load = Load(Path(folder), recordings, {"limits": {"max_queued": 16, "max_jobs_per_client": 1000}})
            print(json.dumps(load.run(clients, arguments.seconds, arguments.kill_every)), flush=True)
    if arguments.compare:
        with tempfile.TemporaryDirectory() as folder:
            for row in compare(Path(folder), recordings, arguments.rounds):
                print(json.dumps({key: round(value, 3) for key, value in row.items()}), flush=True)


if __name__ == "__main__":
    main()
