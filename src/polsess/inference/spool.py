"""Samples put aside between two passes: in memory while they are few, in a nameless file beyond."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import torch
from torch import Tensor

_BYTES = 4


class Spool:
    """Float32 samples of several rows, appended at the end and read from the start.

    Args:
        num_rows: R.
        memory_bytes: Above this the samples move to disk; 0 keeps them in memory whatever their number.
        folder: Where the file lies; it has no name there and vanishes with the process.
    """

    def __init__(self, num_rows: int, memory_bytes: int = 0, folder: Path | None = None) -> None:
        self._rows = num_rows
        self._file = tempfile.SpooledTemporaryFile(max_size=memory_bytes, dir=str(folder) if folder else None)  # noqa: SIM115

    def append(self, block: Tensor) -> None:
        """Put ``[R, n]`` behind what is there."""
        self._file.write(block.T.contiguous().numpy().tobytes())

    def rewind(self) -> None:
        """Go back to the first sample."""
        self._file.seek(0)

    def read(self, num_samples: int) -> Tensor:
        """The next samples, ``[R, num_samples]``."""
        content = bytearray(self._file.read(num_samples * self._rows * _BYTES))
        samples = torch.from_numpy(np.frombuffer(content, dtype=np.float32).reshape(-1, self._rows))
        if len(samples) != num_samples:
            raise OSError(f"{num_samples - len(samples)} samples that were put aside are gone.")
        return samples.T

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
