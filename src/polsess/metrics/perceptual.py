"""Perceived quality and intelligibility by the field's packages, guarded where those crash or invent a value.

PESQ: ITU-T P.862 with its mapping P.862.1 (narrow band) or P.862.2 (wide band), package ``pesq``.
STOI: Taal et al. (2011), https://doi.org/10.1109/TASL.2011.2114881; ESTOI: Jensen and Taal (2016),
https://doi.org/10.1109/TASLP.2016.2585878; package ``pystoi``.

Shapes: T samples.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polsess.dependencies import require

Signals = NDArray[np.float64]
"""Signals in double precision, as metrics use them; a docstring gives the shape."""

PESQ_MODES = {8000: "nb", 16000: "wb"}
"""The band that PESQ is defined for at each sample rate in Hz."""
PESQ_MAX_SECONDS = 60
"""Longer signals overflow a fixed table of utterances in the reference implementation, which then crashes."""
_MIN_SECONDS = 0.25  # of PESQ; STOI needs 30 frames, 0.4 s of speech


class UndefinedScoreError(ValueError):
    """A metric has no value for this utterance; the message is the reason."""


def pesq(estimate: Signals, reference: Signals, sample_rate: int) -> float:
    """PESQ, a prediction of the mean opinion score, about 1 to 4.6.

    Args:
        estimate: ``[T]``.
        reference: ``[T]``.
        sample_rate: 8000 for narrow band, 16000 for wide band.

    Raises:
        UndefinedScoreError: If PESQ cannot judge these signals.
        ModuleNotFoundError: If the package is missing.
    """
    if sample_rate not in PESQ_MODES:
        raise UndefinedScoreError("PESQ is defined at 8 and 16 kHz only")
    if len(reference) < _MIN_SECONDS * sample_rate:
        raise UndefinedScoreError("too short for PESQ")
    if len(reference) > PESQ_MAX_SECONDS * sample_rate:
        raise UndefinedScoreError(f"longer than {PESQ_MAX_SECONDS} s, too long for PESQ")
    package: Any = require("pesq", "PESQ")
    try:
        score = package.pesq(
            sample_rate, _unit_peak(reference), _unit_peak(estimate), PESQ_MODES[sample_rate]
        )
    except (package.PesqError, ValueError, RuntimeError) as error:
        raise UndefinedScoreError(f"PESQ: {_message(error)}") from None
    return _finite(float(score), "PESQ")


def stoi(estimate: Signals, reference: Signals, sample_rate: int, extended: bool = False) -> float:
    """Intelligibility between 0 and 1.

    Args:
        estimate: ``[T]``.
        reference: ``[T]``.
        sample_rate: Sample rate in Hz; the package resamples to 10 kHz.
        extended: Compute ESTOI, which is also valid for modulated maskers.

    Raises:
        UndefinedScoreError: If fewer than 30 frames of speech remain.
        ModuleNotFoundError: If the package is missing.
    """
    package: Any = require("pystoi", "STOI")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)  # its way of saying that 1e-5 is not a score
            score = package.stoi(reference, estimate, sample_rate, extended=extended)
    except (RuntimeWarning, ValueError, IndexError):
        raise UndefinedScoreError("less than 0.4 s of speech, too short for STOI") from None
    return _finite(float(score), "STOI")


def _unit_peak(signal: Signals) -> Signals:
    """PESQ levels both signals itself; a common scale keeps its float32 arithmetic exact for quiet ones."""
    return signal / np.abs(signal).max()


def _finite(score: float, name: str) -> float:
    if not math.isfinite(score):
        raise UndefinedScoreError(f"{name} gave no finite value")
    return score


def _message(error: Exception) -> str:
    text = error.args[0] if error.args else type(error).__name__
    return text.decode(errors="replace") if isinstance(text, bytes) else str(text)
