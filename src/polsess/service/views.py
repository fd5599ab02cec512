"""Answers of the API as clients see them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from polsess.service.store import File, Job, Store

Status = Literal["queued", "running", "done", "failed"]


class ResultView(BaseModel):
    """One file of a result."""

    name: str = Field(examples=["meeting_speaker1.wav"])
    kind: Literal["track", "timeline", "picture"]
    speaker: str = Field(description="Of a track or its picture; mixture for the recording's picture.")
    bytes: int = Field(examples=[1_920_044])
    precision: str = Field(
        "float32",
        description="The type in which the network's products were computed.",
        examples=["bfloat16"],
    )
    url: str = Field(examples=["/v1/jobs/5d41402abc4b2a76b9719d911017c592/files/0/meeting_speaker1.wav"])


class FileView(BaseModel):
    """A recording of a job."""

    name: str = Field(examples=["meeting.wav"])
    seconds: float = Field(description="Its length.", examples=[120.0])
    sample_rate: int = Field(description="In Hz.", examples=[16000])
    channels: int = Field(examples=[1])
    status: Status
    stage: str = Field(description="listening, separating or drawing while it runs.", examples=["separating"])
    progress: float = Field(description="Share that is done, 0 to 1.", examples=[0.42])
    seconds_left: float | None = Field(description="Estimate while it runs.", examples=[8.5])
    ahead: int = Field(description="Recordings that wait and come before it.", examples=[0])
    error: str | None = Field(description="Why it failed, in one line.", examples=[None])
    source: str = Field(examples=["/v1/jobs/5d41402abc4b2a76b9719d911017c592/files/0"])
    results: Sequence[ResultView]


class JobView(BaseModel):
    """A job and how far it is."""

    model_config = ConfigDict(json_schema_extra={"description": "A job and how far it is."})

    id: str = Field(examples=["5d41402abc4b2a76b9719d911017c592"])
    status: Status = Field(
        description="failed where at least one recording failed; the others' results are there."
    )
    created: float = Field(description="Seconds since 1970, UTC.", examples=[1_767_225_600.0])
    files: Sequence[FileView]
    archive: str | None = Field(
        description="A zip of all results, once there are any.",
        examples=["/v1/jobs/5d41402abc4b2a76b9719d911017c592/results.zip"],
    )


class ServiceView(BaseModel):
    """What the service offers."""

    models: Sequence[str] = Field(examples=[["default"]])
    needs_key: bool
    formats: Sequence[str] = Field(examples=[["wav", "flac", "ogg", "mp3"]])
    max_bytes: int
    max_seconds: float
    max_channels: int
    max_files: int
    direct_seconds: float
    retention_hours: float


class Reason(BaseModel):
    """Why a request was refused."""

    detail: str = Field(examples=["notes.txt: is not a WAV, FLAC, OGG, MP3 or AIFF file."])


def view_job(job: Job, store: Store) -> JobView:
    """A job as its client sees it."""
    base = f"/v1/jobs/{job.id}"
    return JobView(
        id=job.id,
        status=job.status,
        created=job.created,
        files=[_view_file(file, base, store) for file in job.files],
        archive=f"{base}/results.zip" if any(file.results for file in job.files) else None,
    )


def _view_file(file: File, base: str, store: Store) -> FileView:
    source = f"{base}/files/{file.place}"
    left = None
    if file.status == "running" and file.started and file.share > 0.02:
        left = round((time.time() - file.started) * (1 - file.share) / file.share, 1)
    return FileView(
        name=file.name,
        seconds=round(file.seconds, 3),
        sample_rate=file.sample_rate,
        channels=file.channels,
        status=file.status,
        stage=file.stage,
        progress=round(file.share, 4),
        seconds_left=left,
        ahead=store.ahead(file.number) if file.status == "queued" else 0,
        error=file.error,
        source=source,
        results=[ResultView(**each, url=f"{source}/{each['name']}") for each in file.results],
    )
