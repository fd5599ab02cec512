"""Jobs in SQLite: the one place that server and workers share; every change of a state is one transaction.

A job holds files, and a file is what a worker claims. Who ends a file must still hold its claim, so that a
worker that was given up cannot end what another one does again.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MAX_ATTEMPTS = 3
"""Times that a file is begun; the processes that fell over it may have done so because of it."""
_RECENT = 50
_USUAL_FACTOR = 0.5

_TABLES = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, client TEXT NOT NULL, options TEXT NOT NULL, created REAL NOT NULL, finished REAL,
    direct INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS files (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    place INTEGER NOT NULL, name TEXT NOT NULL, stored TEXT NOT NULL,
    sample_rate INTEGER NOT NULL, channels INTEGER NOT NULL, seconds REAL NOT NULL,
    status TEXT NOT NULL DEFAULT 'queued', worker TEXT, attempts INTEGER NOT NULL DEFAULT 0,
    stage TEXT NOT NULL DEFAULT '', share REAL NOT NULL DEFAULT 0,
    started REAL, finished REAL, error TEXT, results TEXT NOT NULL DEFAULT '[]',
    UNIQUE (job, place)
);
CREATE INDEX IF NOT EXISTS files_by_status ON files (status, number);
"""
_NEXT = """
SELECT number FROM files JOIN jobs ON jobs.id = files.job WHERE files.status = 'queued'
ORDER BY (
    SELECT count(*) FROM files AS other JOIN jobs AS owner ON owner.id = other.job
    WHERE other.status = 'running' AND owner.client = jobs.client
), number LIMIT 1
"""
"""The oldest file of the client for whom the fewest are at work."""


class FullError(Exception):
    """No more work is taken at present; ``client`` says whether that is for this client alone."""

    def __init__(self, message: str, *, client: bool) -> None:
        super().__init__(message)
        self.client = client


@dataclass(frozen=True)
class NewFile:
    """A recording of a job that is about to be accepted."""

    name: str
    """As the client calls it."""
    stored: str
    """Name of the file in the job's folder of inputs."""
    sample_rate: int
    channels: int
    seconds: float


@dataclass(frozen=True)
class File:
    """A recording of a job and what has become of it."""

    number: int
    job: str
    place: int
    """Its place in the job, from 0."""
    name: str
    stored: str
    sample_rate: int
    channels: int
    seconds: float
    status: str
    """queued, running, done or failed."""
    worker: str | None
    attempts: int
    stage: str
    share: float
    """Of the work that is done."""
    started: float | None
    finished: float | None
    error: str | None
    results: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Job:
    """What a client asked for at once."""

    id: str
    client: str
    options: Mapping[str, Any]
    created: float
    finished: float | None
    direct: bool
    """Whether a client waited for it, and keeps no id."""
    files: Sequence[File] = field(default=())

    @property
    def status(self) -> str:
        """queued, running, done, or failed where at least one recording failed."""
        states = {file.status for file in self.files}
        if states <= {"done", "failed"}:
            return "failed" if "failed" in states else "done"
        return "queued" if states == {"queued"} else "running"


class Store:
    """The jobs of one service.

    Args:
        path: The database; made if needed.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.RLock()
        self._connection = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
        self._connection.row_factory = sqlite3.Row
        for setting in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
            self._connection.execute(f"PRAGMA {setting}")
        self._connection.executescript(_TABLES)

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._connection.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):  # a full disk may have ended it already
                    self._connection.execute("ROLLBACK")
                raise

    def add(
        self,
        job: str,
        client: str,
        options: Mapping[str, Any],
        files: Sequence[NewFile],
        *,
        max_queued: int,
        max_jobs: int,
        direct: bool = False,
    ) -> None:
        """Accept a job, whose recordings are on disk; ``direct`` if a client waits for it and keeps no id.

        Raises:
            FullError: If the queue is full, or the client has too many unfinished jobs.
        """
        with self._transaction() as connection:
            self.check_room(client, len(files), max_queued=max_queued, max_jobs=max_jobs)
            connection.execute(
                "INSERT INTO jobs (id, client, options, created, direct) VALUES (?, ?, ?, ?, ?)",
                (job, client, json.dumps(dict(options)), time.time(), direct),
            )
            connection.executemany(
                "INSERT INTO files (job, place, name, stored, sample_rate, channels, seconds)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                [
                    (job, place, each.name, each.stored, each.sample_rate, each.channels, each.seconds)
                    for place, each in enumerate(files)
                ],
            )

    def check_room(
        self, client: str, num_files: int, *, max_queued: int, max_jobs: int, uploads: int = 0
    ) -> None:
        """Find out whether a job would be accepted now, beside those that the client is sending.

        Raises:
            FullError: If it would not.
        """
        queued = self.count("queued")
        if queued + num_files > max_queued:
            raise FullError(f"{queued} recordings wait already, of at most {max_queued}.", client=False)
        unfinished = self._one("SELECT count(*) FROM jobs WHERE client = ? AND finished IS NULL", client)
        unfinished += uploads
        if unfinished >= max_jobs:
            raise FullError(
                f"{unfinished} of your jobs are unfinished, of at most {max_jobs}; wait, or delete one.",
                client=True,
            )

    def claim(self, worker: str) -> tuple[File, Mapping[str, Any]] | None:
        """Take the next recording and the options of its job; None if nothing waits."""
        with self._transaction() as connection:
            row = connection.execute(
                "UPDATE files SET status = 'running', worker = ?, attempts = attempts + 1, started = ?,"  # noqa: S608 - constants
                f" stage = '', share = 0 WHERE number = ({_NEXT}) RETURNING *",
                (worker, time.time()),
            ).fetchone()
            if row is None:
                return None
            options = self._one("SELECT options FROM jobs WHERE id = ?", row["job"])
            return _file(row), json.loads(options)

    def report(self, number: int, worker: str, stage: str, share: float) -> bool:
        """Say how far a recording is; False where the claim is gone, e.g. as the job was deleted."""
        with self._lock:
            changed = self._connection.execute(
                "UPDATE files SET stage = ?, share = ?"
                " WHERE number = ? AND worker = ? AND status = 'running'",
                (stage, share, number, worker),
            )
            return changed.rowcount == 1

    def finish(
        self, number: int, worker: str, results: Sequence[Mapping[str, Any]], error: str | None
    ) -> bool:
        """End a recording, well or with an error; False where the claim is gone and nothing was changed."""
        now = time.time()
        status = "done" if error is None else "failed"
        with self._transaction() as connection:
            changed = connection.execute(
                "UPDATE files SET status = ?, results = ?, error = ?, finished = ?, share = 1, stage = '',"
                " worker = NULL WHERE number = ? AND worker = ? AND status = 'running' RETURNING job",
                (status, json.dumps(list(results)), error, now, number, worker),
            ).fetchone()
            if changed is None:
                return False
            self._finish_jobs(connection, now)
            return True

    def release(self, worker: str | None = None) -> list[str]:
        """Put back what an ended worker held; what was begun too often fails.

        Args:
            worker: The worker; None for all of them, when a service starts.

        Returns:
            The jobs that it held.
        """
        now = time.time()
        chosen = "status = 'running'" + ("" if worker is None else " AND worker = ?")
        given = () if worker is None else (worker,)
        with self._transaction() as connection:
            jobs = {row["job"] for row in connection.execute(f"SELECT job FROM files WHERE {chosen}", given)}  # noqa: S608
            connection.execute(
                "UPDATE files SET status = 'failed', worker = NULL, finished = ?, stage = '', error ="  # noqa: S608
                " name || ': the process that separated it was ended ' || attempts || ' times, most likely"
                " because memory ran out; send a shorter recording.'"
                f" WHERE {chosen} AND attempts >= {MAX_ATTEMPTS}",
                (now, *given),
            )
            connection.execute(
                f"UPDATE files SET status = 'queued', worker = NULL, share = 0, stage = '' WHERE {chosen}",  # noqa: S608
                given,
            )
            self._finish_jobs(connection, now)
        return sorted(jobs)

    @staticmethod
    def _finish_jobs(connection: sqlite3.Connection, now: float) -> None:
        connection.execute(
            "UPDATE jobs SET finished = ? WHERE finished IS NULL AND NOT EXISTS"
            " (SELECT 1 FROM files WHERE job = jobs.id AND status IN ('queued', 'running'))",
            (now,),
        )

    def find(self, job: str) -> Job | None:
        """A job with its files; None if there is none of this id."""
        with self._lock:
            row = self._connection.execute("SELECT * FROM jobs WHERE id = ?", (job,)).fetchone()
            if row is None:
                return None
            files = self._connection.execute("SELECT * FROM files WHERE job = ? ORDER BY place", (job,))
            return Job(**{**dict(row), "options": json.loads(row["options"])}, files=[*map(_file, files)])

    def delete(self, job: str) -> bool:
        """Forget a job and what becomes of it; False if there is none."""
        with self._transaction() as connection:
            return connection.execute("DELETE FROM jobs WHERE id = ?", (job,)).rowcount == 1

    def expired(self, before: float) -> list[str]:
        """Jobs that ended before a time."""
        with self._lock:
            return [
                row["id"]
                for row in self._connection.execute("SELECT id FROM jobs WHERE finished < ?", (before,))
            ]

    def unattended(self) -> list[str]:
        """Jobs that clients waited for, who are gone when a service starts."""
        with self._lock:
            return [row["id"] for row in self._connection.execute("SELECT id FROM jobs WHERE direct")]

    def known(self) -> set[str]:
        """The ids of all jobs."""
        with self._lock:
            return {row["id"] for row in self._connection.execute("SELECT id FROM jobs")}

    def count(self, status: str) -> int:
        """Number of recordings of a status."""
        return int(self._one("SELECT count(*) FROM files WHERE status = ?", status))

    def ahead(self, number: int) -> int:
        """Number of recordings that wait and came before this one."""
        return int(self._one("SELECT count(*) FROM files WHERE status = 'queued' AND number < ?", number))

    def waiting_seconds(self) -> float:
        """Seconds that one worker's lane would need for all that waits, from how long the last ones took."""
        with self._lock:
            took = self._connection.execute(
                "SELECT sum(finished - started), sum(seconds) FROM (SELECT * FROM files"  # noqa: S608
                f" WHERE status = 'done' ORDER BY finished DESC LIMIT {_RECENT})"
            ).fetchone()
            waiting = self._one("SELECT coalesce(sum(seconds), 0) FROM files WHERE status = ?", "queued")
        factor = took[0] / took[1] if took[1] else _USUAL_FACTOR
        return float(waiting) * factor

    def _one(self, query: str, *values: Any) -> Any:
        with self._lock:
            return self._connection.execute(query, values).fetchone()[0]


def _file(row: sqlite3.Row) -> File:
    return File(**{**dict(row), "results": json.loads(row["results"])})
