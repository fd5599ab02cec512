"""How fast a corpus is read."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from polsess.audio import read_plain_header
from polsess.data.base import Corpus
from polsess.data.loader import DataConfig, create_loader
from polsess.data.polsess import PolSESS
from polsess.data.polsess_files import Form, LayerFiles, Samples
from polsess.data.polsess_table import PolSESSRow

_ROUNDS = 7


def measure_loading(corpus: Corpus, config: DataConfig, num_workers: int, num_items: int) -> float:
    """Items per second of a training loader, from its second batch on.

    Args:
        corpus: A training split.
        config: Its batch size counts; its workers do not.
        num_workers: Processes that prepare batches.
        num_items: How many to read; at most an epoch.

    Raises:
        ValueError: If the corpus has fewer than two batches.
    """
    if len(corpus) < 2 * config.batch_size:
        raise ValueError(f"bench: {len(corpus)} items are fewer than two batches of {config.batch_size}.")
    settings = config.model_copy(update={"num_workers": num_workers})
    count, start = 0, 0.0
    for number, batch in enumerate(create_loader(corpus, settings, training=True)):
        if number == 0:
            start = time.perf_counter()  # processes have started
            continue
        count += len(batch.identifiers)
        if count >= num_items:
            break
    return count / (time.perf_counter() - start)


@dataclass(frozen=True)
class _WatchedFiles(LayerFiles):
    """Notes what is read."""

    seen: list[tuple[str, int, int]] = field(default_factory=list)

    def read(
        self, row: PolSESSRow, column: str, form: Form, start: int, buffer: NDArray[np.int16]
    ) -> NDArray[np.int16] | Samples:
        self.seen.append((self.path(row, column), start, len(buffer)))
        return super().read(row, column, form, start, buffer)


def compare_with_numpy(corpus: PolSESS, num_items: int) -> float | None:
    """How many times as long items take as numpy takes for the same bytes, in processor time, in turns.

    Args:
        corpus: A split whose layers come from one row each.
        num_items: How many items to read each time; at most an epoch.

    Returns:
        The median of several rounds; None if some files are no 16-bit WAV, for which numpy has no measure.
    """
    num_items = min(num_items, len(corpus))
    watched = _WatchedFiles(corpus.files.folder, corpus.files.table)
    corpus.files, files = watched, corpus.files
    _read_items(corpus, num_items)
    corpus.files = files
    headers = [read_plain_header(path) for path, _, _ in watched.seen]
    jobs = [
        (path, count, header.data_offset + 2 * start)
        for (path, start, count), header in zip(watched.seen, headers, strict=True)
        if header is not None
    ]
    if len(jobs) < len(headers):
        return None
    ratios = []
    for _ in range(_ROUNDS):
        start = time.process_time()
        for path, count, offset in jobs:
            np.fromfile(path, "<i2", count, offset=offset)
        middle = time.process_time()
        _read_items(corpus, num_items)
        ratios.append((time.process_time() - middle) / max(middle - start, 1e-9))
    return statistics.median(ratios)


def _read_items(corpus: Corpus, count: int) -> None:
    for index in range(count):
        corpus.example(0, index)
