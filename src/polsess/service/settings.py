"""What the operator of a service sets, and what a client may ask for with a job."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from polsess.diarization.settings import parse_speakers
from polsess.schema import Schema

_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_TIMELINES = ("elan", "audacity")


class Limits(Schema):
    """What one client may send, and all of them together."""

    max_bytes: int = Field(default=512 * 2**20, ge=1)
    """Largest request."""
    max_seconds: float = Field(default=4 * 3600.0, gt=0)
    """Longest recording."""
    max_channels: int = Field(default=8, ge=1)
    """Most channels of a recording."""
    max_files: int = Field(default=100, ge=1)
    """Most recordings of a job."""
    max_queued: int = Field(default=200, ge=1)
    """Most recordings that wait; more are refused with 503."""
    max_jobs_per_client: int = Field(default=20, ge=1)
    """Most unfinished jobs of one client; more are refused with 429."""
    max_uploads: int = Field(default=64, ge=1)
    """Most uploads at once."""
    max_streams: int = Field(default=4, ge=1)
    """Most connections to ``/v1/stream``; the server itself runs their networks."""
    direct_seconds: float = Field(default=60.0, gt=0)
    """Longest recording for ``POST /v1/separate``."""
    patience_seconds: float = Field(default=60.0, gt=0)
    """A client that sends nothing for this long, or after it less than 1 KiB a second, is given up."""
    min_free_bytes: int = Field(default=256 * 2**20, ge=0)
    """Space on the disk that uploads leave free."""

    @property
    def files_of_job(self) -> int:
        """Most recordings of a job, which must find room in the queue."""
        return min(self.max_files, self.max_queued)


class ServiceConfig(Schema):
    """All settings of a service."""

    folder: Path
    """Jobs and their files."""
    models: dict[str, str] = Field(default={"default": "default"})
    """Weights by the names that clients use; the first is taken where none is named."""
    streams: dict[str, str] = Field(default={})
    """Weights of causal networks by the names that ``/v1/stream`` knows; none for no streams."""
    detector: str = "activity-detector"
    """Network that says how many talk: a name, folder or file."""
    embedder: str = "speaker-embedder"
    """Network that says whose voice it is, likewise; also any ONNX file that ``polsess separate`` takes."""
    enhancer: str = "enhance-one-streaming"
    """Network that takes noise and rooms out of what both hear, likewise; none for recordings as they are."""
    device: str = "auto"
    """Device of the networks: auto, cpu, cuda or mps."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Type of the products of ``models``, as of ``polsess separate``; ``streams`` run in float32."""
    workers: int = Field(default=1, ge=1, le=64)
    """Processes, each with all models loaded."""
    lanes: int | None = Field(default=None, ge=1, le=64)
    """Recordings that one process works on at once; None for 2, and 8 on CUDA."""
    batch_size: int | None = Field(default=None, ge=1)
    """Pieces per pass through the network, of all recordings at work; None for 8 on CUDA, else for as
    many as each network is made for on a CPU."""
    segment_seconds: float = Field(default=24.0, gt=0)
    """Longest piece that a network sees at once."""
    retention_hours: float = Field(default=24.0, gt=0)
    """Finished jobs are deleted after this time."""
    grace_seconds: float = Field(default=30.0, ge=0)
    """How long running work may go on once the service is told to stop."""
    keys: Path | None = None
    """File of the hashed keys of clients; None lets in everybody who reaches the address."""
    limits: Limits = Limits()

    @property
    def listeners(self) -> dict[str, str]:
        """The networks that say who speaks when."""
        return {"detector": self.detector, "embedder": self.embedder, "enhancer": self.enhancer}

    @field_validator("models")
    @classmethod
    def _some(cls, models: dict[str, str]) -> dict[str, str]:
        if not models:
            raise ValueError("expected at least one model")
        return models

    @field_validator("models", "streams")
    @classmethod
    def _named(cls, models: dict[str, str]) -> dict[str, str]:
        for name in models:
            if not _MODEL_NAME.fullmatch(name):
                raise ValueError(f"expected a name of letters, digits, '.', '_' and '-', got {name!r}")
        return models


class JobOptions(Schema):
    """How the recordings of a job are separated, as the fields of its request say."""

    model: str = ""
    """Name of a model of the service; empty for its first."""
    gate: Literal["auto", "never", "always"] = "auto"
    """Whether only what several say at once is separated."""
    speakers: str = "auto"
    """Number of voices, e.g. 2, or 2-4, or auto."""
    channels: Literal["mix", "each"] = "mix"
    """Separate the mean of the channels, or each channel by itself."""
    format: Literal["wav", "flac", "ogg", "mp3"] = "wav"
    """File format of the tracks."""
    bits: Literal["16", "24", "32f"] | None = None
    """Bits per sample, for wav and flac."""
    timeline: str = ""
    """Files besides RTTM and JSON that say who speaks when: some of elan, audacity."""

    @field_validator("speakers")
    @classmethod
    def _countable(cls, speakers: str) -> str:
        try:
            parse_speakers(speakers)
        except ValueError as error:
            raise ValueError(str(error).partition(": ")[2]) from None  # parsing names the key
        return speakers

    @field_validator("timeline")
    @classmethod
    def _known(cls, timeline: str) -> str:
        for word in (word.strip() for word in timeline.split(",")):
            if word and word not in _TIMELINES:
                raise ValueError(f"expected some of {', '.join(_TIMELINES)}, got {word[:40]!r}")
        return timeline

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.gate == "never" and self.speakers != "auto":
            raise ValueError("speakers: without the gate nobody counts voices; leave one of both out")
        if self.gate == "never" and self.timeline:
            raise ValueError("timeline: without the gate nobody listens for speakers; leave one of both out")
        if self.bits and self.format in ("ogg", "mp3"):
            raise ValueError(f"bits: {self.format} is lossy and has no bits per sample; leave it out")
        if self.bits == "32f" and self.format == "flac":
            raise ValueError("bits: flac holds no 32f; use 24 bits or wav")
        return self
