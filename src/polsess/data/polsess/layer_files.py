"""Reading the layers of PolSESS rows, a part of each file.

Shapes: T samples.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from polsess.audio import AudioError, Samples, read_audio, read_audio_info, read_plain_mono
from polsess.data.polsess.layers import FOLDERS
from polsess.data.polsess.table import PolSESSRow

Form = tuple[int, int]
"""Samples and rate in Hz."""

STEP = np.float32(2.0**-15)
"""Unit of the layers: steps of 16 bits, so that sums of 16-bit files are exact."""


@dataclass(frozen=True)
class LayerFiles:
    """The files of one split."""

    folder: str
    """Folder of the split, a string because joining a million paths takes time."""
    table: Path
    _forms: dict[int, Form] = field(default_factory=dict, repr=False, compare=False)
    """Lengths and rates by row; ``read`` notices a file that has changed."""

    def form(self, row: PolSESSRow) -> Form:
        """Length and rate of a mixture.

        Raises:
            FileNotFoundError: If it is not there.
            AudioError: If it cannot be read.
        """
        known = self._forms.get(row.number)
        if known is None:
            info = read_audio_info(self._existing(row, "mixFile"))
            known = self._forms[row.number] = info.num_samples, info.sample_rate
        return known

    def read(
        self, row: PolSESSRow, column: str, form: Form, start: int, buffer: NDArray[np.int16]
    ) -> NDArray[np.int16] | Samples:
        """A part of a layer, ``[T]`` in steps of 16 bits.

        Args:
            row: Row of the layer.
            column: Column of the layer.
            form: Length and rate of the mixture, which every layer must have.
            start: First sample.
            buffer: ``[T]``; returned with the samples if the file holds 16-bit integers.

        Raises:
            FileNotFoundError: If the file is not there.
            AudioError: If it cannot be read or does not fit its mixture.
        """
        header = read_plain_mono(self.path(row, column), start, buffer)
        if header is not None and header.num_samples == form[0] and header.sample_rate == form[1]:
            return buffer
        return self._read_other(row, column, form, start, len(buffer))

    def _read_other(self, row: PolSESSRow, column: str, form: Form, start: int, num_samples: int) -> Samples:
        """Other kinds of files, and what is wrong with one."""
        path = self._existing(row, column)
        info = read_audio_info(path)
        if info.num_channels != 1:
            raise AudioError(path, f"has {info.num_channels} channels; layers of PolSESS have one.")
        if (info.num_samples, info.sample_rate) != form:
            raise AudioError(
                path,
                f"has {info.num_samples} samples at {info.sample_rate} Hz; the mixture of row {row.number} "
                f"of {self.table.name} has {form[0]} at {form[1]} Hz.",
            )
        samples: Samples = read_audio(path, start, num_samples)[0][0].numpy()
        return samples / STEP

    def path(self, row: PolSESSRow, column: str) -> str:
        """Where a file is or should be."""
        return f"{self.folder}/{FOLDERS[column]}/{row.files[column]}"

    def _existing(self, row: PolSESSRow, column: str) -> Path:
        path = Path(self.path(row, column))
        if not path.is_file():
            raise FileNotFoundError(f"{self.table}, row {row.number}, column {column}: no file at {path}.")
        return path
