"""A service in a process of its own, as a user starts it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from polsess.audio import write_audio

START_SECONDS = 120.0
Part = tuple[str, bytes]


def tone(path: Path, seconds: float = 1.0, channels: int = 1, rate: int = 8000) -> Path:
    """Two voices of sorts."""
    time_axis = np.arange(round(seconds * rate)) / rate
    sound = 0.2 * np.sin(2 * np.pi * 220 * time_axis) * (np.sin(2 * np.pi * 2 * time_axis) > 0)
    sound = sound + 0.2 * np.sin(2 * np.pi * 330 * time_axis)
    write_audio(path, torch.from_numpy(np.tile(sound, (channels, 1)).astype(np.float32)), rate)
    return path


def form(files: Sequence[Part], fields: Mapping[str, str] | None = None) -> tuple[bytes, str]:
    """The body of a form and its type; names of files are written as they are."""
    boundary = uuid.uuid4().hex
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in (fields or {}).items()
    ]
    for name, content in files:
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
        parts.append(head.encode() + content + b"\r\n")
    return b"".join([*parts, f"--{boundary}--\r\n".encode()]), f"multipart/form-data; boundary={boundary}"


@dataclass
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Running:
    """A service that was started."""

    port: int
    process: subprocess.Popen[bytes]
    log: Path
    key: str | None = None
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=START_SECONDS)
        with contextlib.closing(connection):
            given = {**({"Authorization": f"Bearer {self.key}"} if self.key else {}), **(headers or {})}
            connection.request(method, path, body or None, given)
            answer = connection.getresponse()
            return Answer(answer.status, dict(answer.getheaders()), answer.read())

    def post(self, path: str, *files: Part, **fields: str) -> Answer:
        body, kind = form(files, fields)
        return self.ask("POST", path, body, {"Content-Type": kind})

    def submit(self, *files: Part, **fields: str) -> str:
        answer = self.post("/v1/jobs", *files, **fields)
        assert answer.status == 202, answer.body
        return str(answer.json["id"])

    def wait(self, job: str, seconds: float = START_SECONDS) -> Any:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found = self.ask("GET", f"/v1/jobs/{job}").json
            if found["status"] in ("done", "failed"):
                return found
            time.sleep(0.1)
        raise AssertionError(f"{job} has not ended: {found}\n{self.log.read_text()}")

    def events(self, name: str) -> list[Any]:
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == name]

    def workers(self) -> list[int]:
        """Processes of the workers, the latest last."""
        return [line["pid"] for line in self.events("worker ready")]

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(START_SECONDS)


@contextlib.contextmanager
def running(
    folder: Path, *options: str, key: str | None = None, port: int | None = None, **settings: Any
) -> Iterator[Running]:
    """A service whose workers are ready, with settings as in its YAML file."""
    folder.mkdir(exist_ok=True)
    if port is None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
    configuration, log = folder / "service.yaml", folder / "service.log"
    configuration.write_text(yaml.safe_dump(settings))
    command = [sys.executable, "-m", "polsess", "serve", "-o", str(folder / "data"), "--port", str(port)]
    with log.open("ab") as stream:
        process = subprocess.Popen(
            [*command, "--config", str(configuration), *options],
            stderr=stream,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
    service = Running(port, process, log, key)
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(OSError):
                if service.ask("GET", "/readyz").status == 200:
                    break
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield service
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(START_SECONDS)
