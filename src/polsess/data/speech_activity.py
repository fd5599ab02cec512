"""Where one voice is heard in clean speech, by its level.

Shapes: T samples.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from polsess.audio import Samples
from polsess.data.mixing import rms
from polsess.timelines import JOIN_SECONDS, Turn

_FRAME_SECONDS = 0.01
_SPEECH_RANGE_DB = 30.0
"""Frames this far below the loud ones of a clip are pauses."""
_LOUD = 0.1
"""RMS that the loud frames of every clip are brought to."""


def find_speech(samples: Samples, sample_rate: int) -> list[tuple[float, float]]:
    """Where one voice is heard in clean speech whose loud frames have an RMS of about 0.1.

    Args:
        samples: ``[T]``.
        sample_rate: In Hz.

    Returns:
        Start and end of every stretch in seconds.
    """
    active = np.flatnonzero(_frame_rms(samples, sample_rate) > _LOUD * 10 ** (-_SPEECH_RANGE_DB / 20))
    if len(active) == 0:
        return []
    breaks = np.flatnonzero(np.diff(active) * _FRAME_SECONDS > JOIN_SECONDS)
    starts, ends = active[np.concatenate([[0], breaks + 1])], active[np.concatenate([breaks, [-1]])] + 1
    length = len(samples) / sample_rate
    return [
        (float(start * _FRAME_SECONDS), float(min(end * _FRAME_SECONDS, length)))
        for start, end in zip(starts, ends, strict=True)
    ]


def find_turns(speech: Samples, sample_rate: int, first: int, speaker: str) -> list[Turn]:
    """Where speech ``[T]`` that begins at a sample of a recording is heard, as ``find_speech``."""
    begin = first / sample_rate
    return [Turn(begin + start, begin + end, speaker) for start, end in find_speech(speech, sample_rate)]


def at_full_level(samples: Samples, sample_rate: int) -> Samples:
    """Speech ``[T]`` brought to the level that ``find_speech`` expects."""
    loud = np.quantile(_frame_rms(samples, sample_rate), 0.9)
    return samples * np.float32(_LOUD / loud) if loud > 1e-5 else samples


def _frame_rms(samples: Samples, sample_rate: int) -> NDArray[np.float64]:
    frame = max(1, round(_FRAME_SECONDS * sample_rate))
    count = -(-len(samples) // frame)
    padded = np.pad(samples, (0, count * frame - len(samples)))
    return rms(padded.reshape(count, frame))[:, 0]
