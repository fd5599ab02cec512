"""Batches of examples for training: keys of (epoch, index), padded collation, workers.

Shapes: B batch, C sources, T samples.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from pydantic import Field, SerializeAsAny, field_validator
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset, Sampler

from polsess.data.base import Corpus, CorpusConfig, Example
from polsess.data.corpus_factory import parse_corpus_config
from polsess.schema import Schema
from polsess.timelines import Timeline

ExampleKey = tuple[int, int]
"""Epoch and index; with the seed they decide a draw."""

KeyedExample = tuple[ExampleKey, Example]


class DataConfig(Schema):
    """The corpus, and how batches are made of it."""

    corpus: SerializeAsAny[CorpusConfig]
    """Configuration of the corpus; ``corpus_type`` picks the kind."""
    batch_size: int = Field(default=4, ge=1)
    """Examples in a training batch."""
    num_workers: int = Field(default=0, ge=0)
    """Processes that prepare batches; 0 prepares them in the training process."""

    @field_validator("corpus", mode="before")
    @classmethod
    def _parse_corpus(cls, value: Any) -> CorpusConfig:
        return parse_corpus_config(value)


@dataclass(frozen=True)
class Batch:
    """Examples padded to the longest."""

    mixture: Tensor
    """``[B, T]``."""
    references: Tensor
    """``[B, C, T]``."""
    lengths: Tensor
    """Samples of each example before padding, ``[B]``."""
    identifiers: list[str]
    """Names of the examples."""
    metadata: list[dict[str, str | float]]
    """Their metadata."""
    keys: list[ExampleKey]
    """Their epochs and indices."""
    timelines: list[Timeline]
    """Who talks when in each, where the corpus knows it."""

    def rows(self, first: int, last: int) -> Batch:
        """The examples from ``first`` to before ``last``."""
        part = slice(first, last)
        return Batch(*(getattr(self, each.name)[part] for each in fields(self)))

    def to(self, device: torch.device | str) -> Batch:
        """The batch with its tensors on a device."""
        return replace(
            self,
            mixture=self.mixture.to(device, non_blocking=True),
            references=self.references.to(device, non_blocking=True),
            lengths=self.lengths.to(device, non_blocking=True),
        )


class LoadingError(RuntimeError):
    """An example could not be made; the message names it and the file, also from a worker process.

    torch passes a worker's error on as text with a traceback around it; only the message itself is kept.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message.rstrip().rsplit(f"{type(self).__name__}: ", maxsplit=1)[-1])


class ExampleDataset(Dataset[KeyedExample]):
    """A corpus as a torch dataset, indexed by (epoch, index)."""

    def __init__(self, corpus: Corpus) -> None:
        self.corpus = corpus

    def __getitem__(self, key: ExampleKey) -> KeyedExample:
        """Draw the example of a key.

        Raises:
            LoadingError: If a file cannot be used.
        """
        try:
            return key, self.corpus.example(*key)
        except (OSError, ValueError) as error:
            epoch, index = key
            text = " ".join(str(error).split())
            raise LoadingError(
                f"{text} (example {index} of split {self.corpus.split}, epoch {epoch + 1})"
            ) from error

    def __len__(self) -> int:
        """Examples in an epoch."""
        return len(self.corpus)


class EpochSampler(Sampler[ExampleKey]):
    """The keys of one epoch, shuffled by (seed, epoch), each process with its own share.

    Args:
        num_examples: Examples in an epoch.
        seed: Seed of the order, with the epoch.
        shuffle: Whether the order is random.
        rank: Number of this process. All shares are equal: a shuffled epoch leaves out the remainder of the
            division; in order, the first keys are repeated, so that none is missed.
        world_size: Number of processes.
    """

    def __init__(
        self, num_examples: int, seed: int, *, shuffle: bool, rank: int = 0, world_size: int = 1
    ) -> None:
        self.num_examples = num_examples
        self.seed = seed
        self.shuffle = shuffle
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0
        self._resumed = (-1, 0)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration."""
        self.epoch = epoch

    def resume_at(self, epoch: int, num_done: int) -> None:
        """Leave out the first keys of one epoch, those that an interrupted run has used."""
        self.epoch = epoch
        self._resumed = (epoch, num_done)

    def __iter__(self) -> Iterator[ExampleKey]:
        """The keys of this process's share."""
        order = np.arange(self.num_examples)
        if self.shuffle:
            np.random.default_rng([self.seed, self.epoch]).shuffle(order)
        share = np.resize(order, len(self) * self.world_size)[self.rank :: self.world_size]
        epoch, num_done = self._resumed
        first = num_done if epoch == self.epoch else 0
        return iter([(self.epoch, int(index)) for index in share[first:]])

    def __len__(self) -> int:
        """Keys in this process's share."""
        whole, rest = divmod(self.num_examples, self.world_size)
        return whole if self.shuffle else whole + (rest > 0)


def collate(drawn: list[KeyedExample]) -> Batch:
    """Stack examples, zero-padded to the longest."""
    keys, examples = zip(*drawn, strict=True)
    references = pad_sequence([example.references.T for example in examples], batch_first=True)
    return Batch(
        mixture=pad_sequence([example.mixture for example in examples], batch_first=True),
        references=references.permute(0, 2, 1).contiguous(),
        lengths=torch.tensor([len(example.mixture) for example in examples]),
        identifiers=[example.identifier for example in examples],
        metadata=[example.metadata for example in examples],
        keys=list(keys),
        timelines=[example.timeline for example in examples],
    )


def create_loader(
    corpus: Corpus,
    config: DataConfig,
    *,
    training: bool,
    rank: int = 0,
    world_size: int = 1,
    resume_at: tuple[int, int] = (0, 0),
) -> DataLoader[KeyedExample]:
    """Create a loader; training shuffles and drops the last, incomplete batch.

    Args:
        corpus: Source of the examples.
        config: Batch size and workers.
        training: Whether to shuffle and batch; else all examples come one by one, in order.
        rank: Number of this process.
        world_size: Number of processes.
        resume_at: Epoch to start in and batches of it that are done.
    """
    sampler = EpochSampler(len(corpus), corpus.seed, shuffle=training, rank=rank, world_size=world_size)
    batch_size = config.batch_size if training else 1
    sampler.resume_at(resume_at[0], resume_at[1] * batch_size)
    return DataLoader(
        ExampleDataset(corpus),
        batch_size=batch_size,
        sampler=sampler,
        num_workers=config.num_workers,
        collate_fn=collate,
        drop_last=training,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_leave_signals_to_the_main_process,
    )


def _leave_signals_to_the_main_process(_worker: int) -> None:
    """The main process finishes its step and saves; workers must live until then."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"):
        if hasattr(signal, name):  # Windows has two of them
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def measure_loading(corpus: Corpus, config: DataConfig, num_workers: int, num_items: int) -> float:
    """Items per second of a training loader, from its second batch on.

    Args:
        corpus: A training split.
        config: Settings of the loader; its number of workers is replaced.
        num_workers: Processes that prepare batches.
        num_items: Number of items to read; at most an epoch.

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
