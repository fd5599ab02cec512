"""A client of `polsess serve` for Python programs; it needs the standard library only.

from polsess.client import Client

tracks = Client("http://127.0.0.1:8000").separate(["meeting.wav"], "speakers", speakers="2-4")
"""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import tempfile
import time
import urllib.error
import urllib.request
import uuid
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

_BLOCK = 2**18


class _Connection(http.client.HTTPConnection):
    """Reads the answer even where the server stops reading: then it has refused the request."""

    def endheaders(self, message_body: Any = None, *, encode_chunked: bool = False) -> None:  # noqa: ARG002
        super().endheaders()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for block in message_body or ():
                self.send(block)


class _SecureConnection(_Connection, http.client.HTTPSConnection):
    """The same over TLS."""


class _Handler(urllib.request.HTTPHandler):
    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Connection, request)


class _SecureHandler(urllib.request.HTTPSHandler):
    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_SecureConnection, request)


class ServiceError(RuntimeError):
    """The service refused a request; the message is its reason, ``status`` that of HTTP."""

    def __init__(self, status: int, reason: str, again_seconds: float = 5.0) -> None:
        super().__init__(reason)
        self.status, self.again_seconds = status, again_seconds


class Client:
    """A running service.

    Args:
        url: Its address, e.g. ``http://127.0.0.1:8000``.
        key: The API key, if it asks for one.

    Raises:
        ValueError: If the address is not one of HTTP.
    """

    def __init__(self, url: str, key: str | None = None) -> None:
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"url: expected an address such as http://127.0.0.1:8000, got {url!r}.")
        self._url, self._headers = url.rstrip("/"), {"Authorization": f"Bearer {key}"} if key else {}
        self._opener = urllib.request.build_opener(_Handler, _SecureHandler)

    def separate(
        self,
        recordings: Sequence[Path | str],
        folder: Path | str,
        *,
        on_change: Callable[[Mapping[str, Any]], None] = lambda _: None,
        **options: str,
    ) -> list[Path]:
        """Send recordings, wait until they are separated, save all results, and delete the job.

        Args:
            recordings: Sound files.
            folder: Folder of the results; made if needed.
            on_change: Called with the job twice a second.
            **options: Fields of ``POST /v1/jobs``, e.g. ``speakers="2-4"``.

        Returns:
            The files of the results.

        Raises:
            ServiceError: If the service refuses them, or one cannot be separated; the others are saved.
        """
        job = self.submit(recordings, **options)
        while (job := self.job(job["id"]))["status"] in ("queued", "running"):
            on_change(job)
            time.sleep(0.5)
        paths = self.download(job, folder) if job["archive"] else []
        self.delete(job["id"])
        if failed := [file["error"] for file in job["files"] if file["error"]]:
            raise ServiceError(422, " ".join(failed))
        return paths

    def submit(self, recordings: Sequence[Path | str], **options: str) -> dict[str, Any]:
        """Send recordings as a job and return it, without waiting; a full service is asked again."""
        while True:
            boundary = uuid.uuid4().hex
            parts = [*_parts(boundary, [Path(each) for each in recordings], options)]
            size = sum(part.stat().st_size if isinstance(part, Path) else len(part) for part in parts)
            kind = {"Content-Type": f"multipart/form-data; boundary={boundary}", "Content-Length": str(size)}
            try:
                with self._ask("POST", "/v1/jobs", _content(parts), kind) as answer:
                    accepted: dict[str, Any] = json.load(answer)
                    return accepted
            except ServiceError as error:
                if error.status not in (429, 503):
                    raise
                time.sleep(min(error.again_seconds, 60.0))

    def job(self, job: str) -> dict[str, Any]:
        """How far a job is."""
        with self._ask("GET", f"/v1/jobs/{job}") as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    def download(self, job: Mapping[str, Any], folder: Path | str) -> list[Path]:
        """Save all results of a job; of several recordings, each in a folder."""
        with self._ask("GET", job["archive"]) as answer, tempfile.TemporaryFile() as file:
            shutil.copyfileobj(answer, file, _BLOCK)
            with zipfile.ZipFile(file) as archive:
                return [Path(archive.extract(name, folder)) for name in archive.namelist()]

    def delete(self, job: str) -> None:
        """Delete a job and all its files."""
        self._ask("DELETE", f"/v1/jobs/{job}").close()

    def _ask(
        self,
        method: str,
        path: str,
        content: Iterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        request = urllib.request.Request(  # noqa: S310 - the scheme was checked
            self._url + path, content, {**self._headers, **(headers or {})}, method=method
        )
        try:
            return self._opener.open(request)
        except urllib.error.HTTPError as error:
            with error:
                text, again = error.read().decode("utf-8", "replace"), error.headers.get("Retry-After", "5")
            reason = json.loads(text)["detail"] if text.startswith("{") else text[:200]
            raise ServiceError(error.code, reason, float(again)) from None


def _parts(boundary: str, paths: Sequence[Path], options: Mapping[str, str]) -> Iterator[bytes | Path]:
    """A form: its text, and the files in between."""

    def head(disposition: str) -> bytes:
        return f"--{boundary}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n".encode()

    for name, value in options.items():
        yield head(f'name="{name}"') + f"{value}\r\n".encode()
    for path in paths:
        name = "".join(letter for letter in path.name if letter.isprintable() and letter not in '"\\')
        yield from (head(f'name="file"; filename="{name}"'), path, b"\r\n")
    yield f"--{boundary}--\r\n".encode()


def _content(parts: Sequence[bytes | Path]) -> Iterator[bytes]:
    for part in parts:
        if isinstance(part, bytes):
            yield part
            continue
        with part.open("rb") as file:
            while block := file.read(_BLOCK):
                yield block
