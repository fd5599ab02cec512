"""How fast a corpus is read."""

from __future__ import annotations

import time

from polsess.data.base import Corpus
from polsess.data.loader import DataConfig, create_loader


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
