"""The result file: every observation with the conditions under which it was made.

Medians, ratios and tables are computed from it when they are shown; nothing in it is a summary.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field

from polsess.files import read_json, write_text
from polsess.schema import Schema, parse

Mode = Literal["inference", "training", "streaming"]
SchemaT = TypeVar("SchemaT", bound=Schema)


class Settings(Schema):
    """Lengths, modes and limits of a run."""

    seconds: tuple[float, ...] = (1.0, 4.0, 30.0)
    """Lengths of the mixtures of inference, ascending."""
    training_seconds: float = Field(default=1.0, gt=0)
    """Length of the mixtures of a training step."""
    training_batch: int = Field(default=1, ge=1)
    modes: tuple[Mode, ...] = ("inference", "training", "streaming")
    """``streaming`` is for causal networks; of others it is recorded as left out."""
    streaming_seconds: float = Field(default=4.0, gt=0, le=3600)
    """Length of the sound that a causal network gets in pushes."""
    push_seconds: float = Field(default=0.01, ge=0.001, le=1.0)
    """Length of a push."""
    rounds: int = Field(default=3, ge=1)
    """Number of rounds; each visits every model."""
    budget_seconds: float = Field(default=120.0, gt=0)
    """Time limit for the passes of a model in all rounds; a case beyond it is recorded as left out."""
    threads: int = Field(default=1, ge=1)
    device: str = "cpu"
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "float32"
    """Of the products, as it was asked for; ``Timing.precision`` says what ran."""
    allocator: Literal["tuned", "default"] = "tuned"
    """See ``polsess.allocator``."""


class Conditions(Schema):
    """Machine, software and load of a run.

    ``load_before`` and ``load_after`` are the load averages over a minute; None where there are none.
    """

    date: str
    processor: str
    num_processors: int
    memory_gib: float | None
    system: str
    python: str
    torch: str
    polsess: str
    device: str
    kernels: bool
    products: str = ""
    """Library of large matrix products; empty in results from before it was recorded."""
    matrix_gflops: float | None = None
    """Float32 products of 1024 x 1024 matrices, in 10^9 operations per second of one processor; None on other
    devices and in results from before it was recorded."""
    load_before: float | None
    load_after: float | None = None


class Timing(Schema):
    """Passes of one length in one process; in a stream a pass is a push, and the length that of a push.

    ``wall`` and ``cpu`` are seconds of each pass; CPU seconds add up all threads. ``peak_bytes`` is the most
    memory held meanwhile, ``rest_bytes`` the memory held before the first pass of any length.
    """

    mode: Mode
    round: int
    seconds: float
    batch: int = 1
    wall: tuple[float, ...]
    cpu: tuple[float, ...]
    peak_bytes: int | None
    rest_bytes: int | None
    precision: str = "float32"


class Skip(Schema):
    """A case that was not measured, and the reason."""

    mode: Mode
    seconds: float
    reason: str


class Facts(Schema):
    """Facts of a model besides times; MACs are per second of audio at its own sample rate."""

    model_type: str
    parameters: int
    macs_per_second: float
    macs_by_kind: dict[str, float]
    sample_rate: int
    num_sources: int
    causal: bool
    look_ahead_samples: int | None
    file_bytes: int
    stream_latency_samples: int | None = None
    """The most samples behind a sample before its estimate comes out of a stream; None where it cannot
    stream, and in results from before it was recorded."""
    stream_obstacle: str = ""
    """Why it cannot stream."""


class ModelResult(Schema):
    """One model; ``failure`` says why nothing could be measured.

    ``own_weights``: it was loaded from somewhere, not built fresh from the configuration of its name.
    ``conditions`` are its own where it was measured apart from the others, ``settings`` likewise.
    """

    name: str
    own_weights: bool = False
    facts: Facts | None = None
    failure: str = ""
    load_seconds: tuple[float, ...] = ()
    timings: tuple[Timing, ...] = ()
    skips: tuple[Skip, ...] = ()
    conditions: Conditions | None = None
    settings: Settings | None = None


class Result(Schema):
    """A run of the benchmark."""

    format_version: Literal[1] = 1
    conditions: Conditions
    settings: Settings
    models: tuple[ModelResult, ...] = ()

    def other_processor(self, model: ModelResult) -> str:
        """The processor that a model was measured on, if it is not that of the others; else empty."""
        name = (model.conditions or self.conditions).processor
        return "" if name == self.conditions.processor else name


def read_result(path: Path) -> Result:
    """Read a result file.

    Raises:
        FileNotFoundError: If there is none.
        ConfigError: If it is no result of the benchmark.
    """
    return read_result_of(Result, path, "polsess benchmark -o FOLDER")


def read_result_of(kind: type[SchemaT], path: Path, command: str) -> SchemaT:
    """Read a result file of one kind.

    Args:
        kind: Schema of the file.
        path: The file.
        command: Command that writes such files, for messages.

    Raises:
        FileNotFoundError: If there is none.
        ConfigError: If its content does not fit the schema.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such result file; `{command}` writes one.")
    return parse(kind, read_json(path, expected=None), str(path))


def write_result(result: Schema, path: Path) -> None:
    """Write a result file."""
    write_text(path, result_text(result))


def result_text(result: Schema) -> str:
    """The content of a result file."""
    return json.dumps(_rounded(result.model_dump(mode="json"))) + "\n"


def _rounded(value: Any) -> Any:
    """Round to five digits, so that a stored file stays small and readable."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return value
