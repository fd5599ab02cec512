"""Spectrograms of a recording and its tracks as small pictures, in bounded memory.

Shapes: T samples, F frequency bins, L frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from polsess.audio import AudioReader
from polsess.pictures import spectrogram_db
from polsess.report.spectra import RANGE_DB, spectrogram_png

_COLUMNS = 600
_FRAMES_PER_COLUMN = 4
_LEAST_SECONDS = 0.008
_BLOCK_SAMPLES = 2**17


def draw_pictures(sounds: Sequence[Path], targets: Sequence[Path]) -> None:
    """Draw a spectrogram of each sound, whole, all on one scale.

    Args:
        sounds: Sound files of equal length; several channels are averaged.
        targets: A .png for each.
    """
    spectra = [_columns(sound) for sound in sounds]
    loudest = max(float(spectrum.max()) for spectrum in spectra)
    for spectrum, target in zip(spectra, targets, strict=True):
        target.write_bytes(spectrogram_png(spectrum, (loudest - RANGE_DB, loudest)))


def _columns(sound: Path) -> NDArray[np.float32]:
    """The loudest level in dB of each bin in some frames of each column of the picture ``[F, L]``."""
    parts = []
    with AudioReader(sound) as reader:
        rate = reader.info.sample_rate
        column = max(1, round(_LEAST_SECONDS * rate), -(-reader.info.num_samples // _COLUMNS))
        for block in reader.blocks(column * max(1, -(-_BLOCK_SAMPLES // column))):
            levels = spectrogram_db(block.mean(0), rate, column // _FRAMES_PER_COLUMN)
            count = min(levels.shape[1], -(-block.shape[1] // column))
            edges = np.linspace(0, levels.shape[1], count, endpoint=False, dtype=int)
            parts.append(np.maximum.reduceat(levels, edges, axis=1))
    return np.concatenate(parts, axis=1)
