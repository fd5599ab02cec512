"""Scores without a reference, by networks in ONNX files that the user supplies.

Nothing is downloaded and nothing of a file is run before its SHA-256 is the one that its description states.

The contract of a file: one input of float32 samples ``[1, T]`` at a stated rate, and a first output whose
last axis are the scores. DNSMOS P.835 (Reddy, Gopal, Cutler 2022, https://arxiv.org/abs/2110.01763) is known
by name: windows of 9.01 s at 16 kHz every second, short sounds repeated, and the polynomials of its authors.

Shapes: T samples, W windows, K scores.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator

from polsess.audio import resample
from polsess.metrics.perceptual import Signals, UndefinedScoreError
from polsess.onnx_files import check_waveform_input, create_session, first_line, read_onnx
from polsess.schema import ConfigError, Schema, parse, suggest

_WORD = "^[a-z][a-z0-9]*$"
_PROTOCOLS: Mapping[str, Mapping[str, Any]] = {
    "dnsmos": {
        "name": "dnsmos",
        "sample_rate": 16000,
        "outputs": ("sig", "bak", "ovrl"),
        "window_seconds": 9.01,
        "hop_seconds": 1.0,
        "polynomials": (
            (-0.08397278, 1.22083953, 0.0052439),
            (-0.13166888, 1.60915514, -0.39604546),
            (-0.06766283, 1.11546468, 0.04602535),
        ),
    }
}


class PredictorConfig(Schema):
    """A network that scores a sound, and how it is fed."""

    name: str = Field(pattern=_WORD)
    """Columns are called ``<name>_<output>``."""
    path: Path
    """The ONNX file."""
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    """SHA-256 of the file."""
    sample_rate: int = Field(ge=1)
    """Sample rate that the network expects, in Hz; estimates are resampled to it."""
    outputs: tuple[Annotated[str, Field(pattern=_WORD)], ...] = Field(min_length=1)
    """Names of the scores, in the order of the network."""
    window_seconds: float | None = Field(default=None, gt=0)
    """Length of the network's input; null for the whole sound."""
    hop_seconds: float = Field(default=1.0, gt=0)
    """Time from one window to the next; the score is the mean over windows."""
    polynomials: tuple[tuple[float, ...], ...] | None = None
    """By output, coefficients that map the network's numbers to scores, the highest power first."""

    @model_validator(mode="after")
    def _check(self) -> PredictorConfig:
        if self.polynomials is not None and len(self.polynomials) != len(self.outputs):
            raise ValueError(f"polynomials: expected {len(self.outputs)}, one per output.")
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it fills."""
        return tuple(f"{self.name}_{output}" for output in self.outputs)


def parse_predictor(data: Mapping[str, Any], where: str) -> PredictorConfig:
    """Read a description; ``protocol: dnsmos`` with ``path`` and ``sha256`` is enough for DNSMOS P.835.

    Raises:
        ConfigError: If it is not one.
    """
    protocol = data.get("protocol")
    given = {key: value for key, value in data.items() if key != "protocol"}
    if protocol is None:
        return parse(PredictorConfig, given, where)
    if protocol not in _PROTOCOLS:
        known = suggest(str(protocol), list(_PROTOCOLS), "Available")
        raise ConfigError(f"{where}.protocol: unknown protocol '{protocol}'.{known}")
    return parse(PredictorConfig, {**_PROTOCOLS[protocol], **given}, where)


def predict(config: PredictorConfig, estimate: Signals, reference: Signals, sample_rate: int) -> list[float]:
    """The scores of one estimate, ``[K]``.

    The level of an estimate matters to these networks, but scale-invariant training leaves it to chance:
    estimates are brought to the level of the reference, and nothing else is taken from it.

    Args:
        config: The network.
        estimate: ``[T]``, not silent.
        reference: ``[T]``.
        sample_rate: Sample rate of both in Hz.

    Raises:
        UndefinedScoreError: If the network fails or gives no finite value.
    """
    level = math.sqrt(float(np.mean(reference**2)) / float(np.mean(estimate**2)))
    samples = torch.from_numpy((level * estimate).astype(np.float32))[None]
    resampled = resample(samples, sample_rate, config.sample_rate)[0].numpy()
    session = open_session(config)
    (feed,) = [each.name for each in session.get_inputs()]
    rows = []
    for window in windows(resampled, config):
        try:
            output = np.asarray(session.run(None, {feed: window[None]})[0], dtype=np.float64)
        except Exception as error:  # onnxruntime's own errors share no base of their own
            raise UndefinedScoreError(f"{config.name}: {first_line(error)}") from None
        rows.append(output.reshape(-1, output.shape[-1])[-1] if output.ndim else output[None])
    table = np.stack(rows)  # [W, K]
    if table.shape[1] != len(config.outputs):
        raise UndefinedScoreError(f"{config.name}: gives {table.shape[1]} scores, not {len(config.outputs)}")
    if config.polynomials is not None:
        table = np.stack(
            [np.polyval(p, column) for p, column in zip(config.polynomials, table.T, strict=True)], 1
        )
    scores = table.mean(0)
    if not np.isfinite(scores).all():
        raise UndefinedScoreError(f"{config.name} gave no finite value")
    return [float(score) for score in scores]


def windows(samples: NDArray[np.float32], config: PredictorConfig) -> list[NDArray[np.float32]]:
    """Windows of a sound, as the network takes them.

    A sound shorter than a window is doubled until it is not. As in the authors' code of DNSMOS, windows begin
    while they end within the last whole hop of the sound.
    """
    if config.window_seconds is None:
        return [samples]
    size = int(config.window_seconds * config.sample_rate)
    hop = config.hop_seconds * config.sample_rate
    while len(samples) < size:
        samples = np.concatenate([samples, samples])
    count = max(1, int(len(samples) // hop - config.window_seconds / config.hop_seconds) + 1)
    starts = [int(index * hop) for index in range(count)]
    return [samples[start : start + size] for start in starts if start + size <= len(samples)]


def check_predictor(config: PredictorConfig) -> None:
    """Open a network once, to find faults before anything is evaluated.

    Raises:
        FileNotFoundError: If there is no such file.
        ConfigError: If it has another digest, is no ONNX file, or does not take one sound.
        ModuleNotFoundError: If onnxruntime is not installed.
    """
    check_waveform_input(open_session(config), config.path)


@lru_cache(maxsize=8)
def open_session(config: PredictorConfig) -> Any:
    """The network of a file whose digest was checked; one per process."""
    content = read_onnx(config.path)
    digest = hashlib.sha256(content).hexdigest()
    if digest != config.sha256:
        raise ConfigError(f"{config.path}: its SHA-256 is {digest}, its description says {config.sha256}.")
    return create_session(content, config.path, f"The metric '{config.name}'")
