"""The service behind the API: it takes recordings in, waits for what becomes of them, and cleans up."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import sqlite3
import threading
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from polsess.schema import ConfigError, parse
from polsess.service.errors import refusal
from polsess.service.keys import Keys
from polsess.service.logs import log
from polsess.service.metrics import Metrics
from polsess.service.places import Places, new_id
from polsess.service.pool import Probe, WorkerPool
from polsess.service.settings import JobOptions, ServiceConfig
from polsess.service.store import FullError, Job, NewFile, Store
from polsess.service.streaming_models import StreamingModels
from polsess.service.uploads import Received, receive_form

_CLEANED_SECONDS = 60.0
_ORPHAN_SECONDS = 6 * 3600.0
_FULL_SECONDS = 60.0
"""After which a client may try again where the disk is full."""
_KEPT_ALIVE_SECONDS = 15.0


class Service:
    """All parts of a service together.

    Args:
        config: Its settings.

    Raises:
        OSError: If the folder cannot be written.
        ConfigError: If the file of keys is damaged.
    """

    def __init__(self, config: ServiceConfig) -> None:
        self.config = config
        self.places = Places(config.folder)
        self.places.jobs.mkdir(parents=True, exist_ok=True)
        self.store = Store(self.places.database)
        self.keys = Keys(config.keys)
        self.metrics = Metrics()
        self.probe = Probe()
        self.pool = WorkerPool(config, self.store, self._hear)
        self.streams = StreamingModels(config.streams, config.device)
        self.stopping = threading.Event()
        self._receiving: dict[str, str] = {}
        """Jobs whose recordings are on their way, and who sends them."""
        self._watchers: dict[str, set[asyncio.Event]] = defaultdict(set)
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Start the workers; call it within the event loop."""
        self._loop = asyncio.get_running_loop()
        self._clean(everything=True)
        self.pool.start()
        self.probe.start()
        threading.Thread(target=self._keep_clean, daemon=True).start()

    def stop(self) -> None:
        """Take nothing more in and let running work end; what remains goes on at the next start."""
        if not self.stopping.is_set():
            self.stopping.set()
            log("stopping")
            self._notify_all()
            self.pool.stop()
            self._notify_all()

    def close(self) -> None:
        """Close what ``stop`` left open."""
        self.stop()
        self.probe.close()
        self.store.close()

    @property
    def ready(self) -> bool:
        """Whether work would be taken in and done now."""
        return not self.stopping.is_set() and self.pool.num_ready > 0 and self._has_room(0)

    def render_metrics(self) -> bytes:
        """The metrics as text."""
        for status in ("queued", "running", "done", "failed"):
            self.metrics.queue.labels(status).set(self.store.count(status))
        self.metrics.workers.set(self.pool.num_ready)
        self.metrics.restarts.set(self.pool.restarts)
        return self.metrics.render(self.pool.pids())

    async def accept(self, request: Request, client: str, *, direct: bool = False) -> str:
        """Receive a job, check it and put it in the queue.

        Args:
            request: With a form.
            client: Who sends it.
            direct: Whether the client waits for the answer: one short recording.

        Returns:
            Its id.

        Raises:
            HTTPException: If it is refused.
        """
        limits = self.config.limits
        job, uploads = new_id(), [*self._receiving.values()].count(client)
        if self.stopping.is_set():
            raise refusal(503, "the service is being stopped; try again soon.", again_seconds=10)
        if len(self._receiving) >= limits.max_uploads:
            raise refusal(503, f"{limits.max_uploads} uploads are under way.", again_seconds=5)
        self._receiving[job] = client  # with the count above, before anything is awaited
        try:
            with self._refused_when_full():
                await run_in_threadpool(self._check_room, client, uploads, request)
                form = await receive_form(request, self.places.job(job) / "input", limits, self._check_disk)
                options = self._options(form.fields)
                if not form.files or (direct and len(form.files) != 1):
                    number = "exactly one recording" if direct else "at least one recording"
                    raise refusal(422, f"file: expected {number} in the field 'file', got {len(form.files)}.")
                longest = limits.direct_seconds if direct else limits.max_seconds
                files = [await run_in_threadpool(self._look, each, longest, direct) for each in form.files]
                await run_in_threadpool(
                    self.store.add,
                    job,
                    client,
                    options.model_dump(),
                    files,
                    max_queued=limits.max_queued,
                    max_jobs=limits.max_jobs_per_client,
                    direct=direct,
                )
        except BaseException:
            self.places.remove(job)
            raise
        finally:
            del self._receiving[job]
        log("accepted", job=job, client=client, files=len(files), seconds=sum(file.seconds for file in files))
        self.pool.wake()
        return job

    def _options(self, fields: dict[str, str]) -> JobOptions:
        try:
            options = parse(JobOptions, fields)
        except ConfigError as error:
            raise refusal(422, str(error)) from None
        if options.model and options.model not in self.config.models:
            known = ", ".join(self.config.models)
            raise refusal(422, f"model: expected one of {known}, got {options.model[:40]!r}.")
        return options

    def _check_room(self, client: str, uploads: int, request: Request) -> None:
        """Refuse what would have no place in the end; uploads count as unfinished jobs of their client."""
        limits = self.config.limits
        self._check_disk(int(request.headers.get("content-length", 0)))
        self.store.check_room(
            client, 1, max_queued=limits.max_queued, max_jobs=limits.max_jobs_per_client, uploads=uploads
        )

    def _check_disk(self, num_bytes: int) -> None:
        """Fail as a full disk does where bytes more would take of the space that is to stay free."""
        if not self._has_room(num_bytes):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _has_room(self, num_bytes: int) -> bool:
        return shutil.disk_usage(self.config.folder).free - num_bytes >= self.config.limits.min_free_bytes

    @contextlib.contextmanager
    def _refused_when_full(self) -> Iterator[None]:
        """Make 503 or 429 of a full queue, a full disk and a busy database."""
        try:
            yield
        except FullError as full:
            again = self.store.waiting_seconds() / max(1, self.config.workers) / 2
            raise refusal(429 if full.client else 503, str(full), again_seconds=again) from None
        except sqlite3.OperationalError as error:
            log("store", level="error", reason=str(error))
            raise refusal(503, "the job cannot be stored now.", again_seconds=_FULL_SECONDS) from None
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise refusal(503, "the disk of the service is full.", again_seconds=_FULL_SECONDS) from None

    def _look(self, received: Received, longest: float, direct: bool) -> NewFile:
        """Find out whether a file is a recording within the limits."""
        facts, limits, name = self.probe.look(received.path), self.config.limits, received.name
        if "refused" in facts:
            raise refusal(facts["status"], f"{name}: {facts['refused']}")
        if facts["seconds"] > longest:
            hint = " here; send it to /v1/jobs" if direct and facts["seconds"] <= limits.max_seconds else ""
            raise refusal(
                422, f"{name}: is {facts['seconds']:.1f} s long; at most {longest:g} s are taken{hint}."
            )
        if facts["channels"] > limits.max_channels:
            raise refusal(
                422, f"{name}: has {facts['channels']} channels; at most {limits.max_channels} are taken."
            )
        return NewFile(name, received.path.name, facts["sample_rate"], facts["channels"], facts["seconds"])

    def delete(self, job: str) -> None:
        """Forget a job: what of it runs is ended, and its files are removed."""
        self.store.delete(job)
        self.places.remove(job)
        self._notify(job)

    async def watch(self, job: str) -> AsyncIterator[Job | None]:
        """The job now and whenever it has changed, until it has ended; None now and then in between.

        Ends early where the job is deleted, or the service stopped.
        """
        changed = asyncio.Event()
        self._watchers[job].add(changed)
        try:
            while True:
                stopped = self.stopping.is_set() and not self.pool.pids()
                if (found := await run_in_threadpool(self.store.find, job)) is None:
                    return
                yield found
                if found.finished is not None or stopped:
                    return
                while True:
                    try:
                        await asyncio.wait_for(changed.wait(), _KEPT_ALIVE_SECONDS)
                        break
                    except TimeoutError:
                        yield None
                changed.clear()
        finally:
            self._watchers[job].discard(changed)
            if not self._watchers[job]:
                del self._watchers[job]

    def _hear(self, event: dict[str, Any]) -> None:
        """A line of a worker."""
        if event["event"] == "ended":
            self.metrics.ended(event)
            log("ended", **{key: value for key, value in event.items() if key != "event"})
        self._notify(event["job"])

    def _notify(self, job: str) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake_watchers, job)

    def _notify_all(self) -> None:
        for job in [*self._watchers]:
            self._notify(job)

    def _wake_watchers(self, job: str) -> None:
        for changed in self._watchers.get(job, ()):
            changed.set()

    def _keep_clean(self) -> None:
        while not self.stopping.wait(_CLEANED_SECONDS):
            try:
                self._clean()
            except Exception as error:
                log("cleaning", level="error", reason=str(error))

    def _clean(self, *, everything: bool = False) -> None:
        """Delete jobs that ended long ago, and folders that belong to none."""
        for job in self.store.expired(time.time() - 3600 * self.config.retention_hours):
            self.delete(job)
            log("expired", job=job)
        for job in self.store.unattended() if everything else ():
            self.delete(job)
        kept = {*self._receiving}  # before the store is asked: one that is whole by then is in it
        kept |= self.store.known()
        for folder in self.places.jobs.iterdir():
            if folder.name not in kept and (everything or _age(folder) > _ORPHAN_SECONDS):
                shutil.rmtree(folder, ignore_errors=True)


def _age(folder: Path) -> float:
    try:
        return time.time() - folder.stat().st_mtime
    except OSError:
        return 0.0
