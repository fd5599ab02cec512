"""Spectrograms as small pictures in the page.

Shapes: T samples, F frequency bins, L frames.
"""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from polsess.pictures import spectrogram_db

RANGE_DB = 80.0
"""From the darkest to the lightest shade."""
_MAX_COLUMNS = 600
_NUM_SHADES = 32  # few enough that a picture compresses well, each 2.5 dB
_ANCHORS = np.array(
    [[8, 8, 20], [48, 18, 94], [120, 28, 109], [187, 55, 84], [236, 105, 37], [251, 180, 46], [252, 253, 191]]
)
"""Colours of rising lightness, so that louder is lighter in grey too."""


def level_range(signals: NDArray[np.float32], sample_rate: int) -> tuple[float, float]:
    """The levels in dB that pictures of these signals ``[N, T]`` show, from darkest to lightest."""
    loudest = max(float(spectrogram_db(each, sample_rate).max()) for each in signals)
    return loudest - RANGE_DB, loudest


def spectrogram_uri(signal: NDArray[np.float32], sample_rate: int, levels: tuple[float, float]) -> str:
    """A PNG of a signal ``[T]`` as a data URI."""
    picture = spectrogram_db(signal, sample_rate)
    step = -(-picture.shape[1] // _MAX_COLUMNS)
    padding = -picture.shape[1] % step
    picture = np.pad(picture, ((0, 0), (0, padding)), mode="edge")
    picture = picture.reshape(len(picture), -1, step).max(-1)  # [F, L]
    return "data:image/png;base64," + base64.b64encode(spectrogram_png(picture, levels)).decode()


def spectrogram_png(picture: NDArray[np.float32], levels: tuple[float, float]) -> bytes:
    """A PNG of the levels in dB ``[F, L]``, a column a frame."""
    low, high = levels
    shades = np.clip((picture - low) / (high - low), 0, 1) * (_NUM_SHADES - 1)
    return _png(shades[::-1].round().astype(np.uint8))


def _png(shades: NDArray[np.uint8]) -> bytes:
    """A PNG of numbers of shades ``[F, L]``; see https://www.w3.org/TR/png/."""
    height, width = shades.shape
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    places = np.linspace(0, len(_ANCHORS) - 1, _NUM_SHADES)
    palette = np.stack([np.interp(places, range(len(_ANCHORS)), channel) for channel in _ANCHORS.T], -1)
    lines = np.concatenate([np.zeros((height, 1), np.uint8), shades], axis=1)  # each begins with filter 0
    parts = {
        b"IHDR": header,
        b"PLTE": palette.round().astype(np.uint8).tobytes(),
        b"IDAT": zlib.compress(lines.tobytes()),
        b"IEND": b"",
    }
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in parts.items())


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
