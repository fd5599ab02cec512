"""Where a service keeps what: the database, and for every job a folder of inputs and one of outputs."""

from __future__ import annotations

import re
import shutil
import unicodedata
import uuid
from dataclasses import dataclass
from pathlib import Path

_JOB = re.compile(r"[0-9a-f]{32}")
_LONGEST = 80


def new_id() -> str:
    """The id of a new job: 122 random bits, which nobody guesses."""
    return uuid.uuid4().hex


def is_id(text: str) -> bool:
    """Whether a text may be the id of a job."""
    return _JOB.fullmatch(text) is not None


def safe_name(name: str) -> str:
    """A name for a file of ours out of one that a client chose: no folders, no control characters.

    Args:
        name: Any text.
    """
    last = re.split(r"[/\\]", name)[-1]
    plain = "".join(
        letter if letter.isalnum() or letter in "-_. ()+,=" else "_"
        for letter in unicodedata.normalize("NFC", last)
        if unicodedata.category(letter)[0] != "C"
    )
    stem, dot, ending = plain.rpartition(".")
    if not dot or not re.fullmatch(r"[A-Za-z0-9]{1,5}", ending):
        stem, ending = plain, ""
    while len(stem.encode()) > _LONGEST:
        stem = stem[:-1]
    stem = stem.strip(" ._") or "recording"
    return f"{stem}.{ending}" if ending else stem


@dataclass(frozen=True)
class Places:
    """The files below the folder of a service."""

    folder: Path

    @property
    def database(self) -> Path:
        """Of the jobs."""
        return self.folder / "jobs.sqlite3"

    @property
    def jobs(self) -> Path:
        """Folder of the folders of all jobs."""
        return self.folder / "jobs"

    def job(self, job: str) -> Path:
        """Folder of a job."""
        return self.jobs / job

    def input(self, job: str, place: int, stored: str) -> Path:
        """A recording of a job; each has a folder, as two may have one name."""
        return self.job(job) / "input" / str(place) / stored

    def output(self, job: str, place: int) -> Path:
        """Folder of the results of a recording."""
        return self.job(job) / "output" / str(place)

    def remove(self, job: str) -> None:
        """Remove all files of a job."""
        shutil.rmtree(self.job(job), ignore_errors=True)
