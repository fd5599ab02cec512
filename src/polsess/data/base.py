"""A corpus: examples by index, each a mixture with its references, drawn reproducibly.

Shapes: C sources, T samples.
"""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import ClassVar, TypeVar

import numpy as np
from pydantic import Field, model_validator
from torch import Tensor

from polsess.data.transcripts import Transcript
from polsess.files import version_of
from polsess.registry import Registry
from polsess.schema import Schema
from polsess.tasks import SEPARATION_TASKS, Task
from polsess.timelines import Timeline


class Split(StrEnum):
    """The part of a corpus that examples come from."""

    TRAIN = "train"
    VAL = "val"
    TEST = "test"

    @classmethod
    def named(cls, name: str) -> Split | None:
        """The split that corpora call so, as ``dev-clean`` or ``tr``; None if it names none.

        Only the first word counts, so that ``train-clean-100`` and ``dev_audio`` are names too. ``eval`` is
        test, as beside the ``dev`` of AMI, CHiME or FSD50K.
        """
        word = re.split(r"[-_. ]", name.casefold(), maxsplit=1)[0]
        return next((split for split, words in _SPLIT_NAMES.items() if word in words), None)


_SPLIT_NAMES = {
    Split.TRAIN: ("train", "training", "tr"),
    Split.VAL: ("val", "valid", "validation", "dev", "devel", "development", "cv"),
    Split.TEST: ("test", "testing", "tt", "eval", "evaluation"),
}
_SPLIT_NUMBERS = {split: number for number, split in enumerate(Split)}


@dataclass(frozen=True)
class Example:
    """One mixture and its references."""

    mixture: Tensor
    """Input of the model, ``[T]``, float32."""
    references: Tensor
    """Wanted output, ``[C, T]``, float32."""
    identifier: str
    """Unique within the split; names the rows of result tables."""
    metadata: dict[str, str | float] = field(default_factory=dict)
    """Conditions to stratify by, e.g. the speakers and the ratio of their levels."""
    timeline: Timeline = ()
    """Who talks when, where the corpus knows it."""
    transcript: Transcript | None = None
    """What is said, where the corpus knows it."""
    speakers: tuple[str, ...] = ()
    """The speaker of each reference as the timeline names them, empty for silent references; without names
    where the corpus does not know them."""


class CorpusConfig(Schema):
    """Fields that every corpus has; each corpus adds its own in its own file."""

    corpus_type: str
    """The name under which the corpus is registered."""
    sample_rate: int = Field(default=8000, ge=1)
    """Rate of the examples in Hz."""
    segment_seconds: float | None = Field(default=4.0, gt=0)
    """Length of training examples; null for whole utterances. Validation and test are always whole."""

    @model_validator(mode="after")
    def _check_segment(self) -> CorpusConfig:
        if self.segment_seconds is not None and round(self.segment_seconds * self.sample_rate) < 1:
            raise ValueError(
                f"segment_seconds: {self.segment_seconds:g} s hold no sample at {self.sample_rate} Hz."
            )
        return self

    @property
    def schedule_from_epoch(self) -> int | None:
        """Epoch from which the learning rate may fall; None unless a curriculum sets one."""
        return None


class Corpus(ABC):
    """The examples of one split of a corpus under one task.

    A draw depends on the seed, the epoch and the index alone, so that workers, machines and resumed runs see
    the same data. Validation and test do not depend on the epoch.
    """

    config_class: ClassVar[type[CorpusConfig]]
    """The configuration of this corpus; set by ``register_corpus``."""
    tasks: ClassVar[frozenset[Task]] = SEPARATION_TASKS
    """Tasks for which the corpus has references."""

    def __init__(self, config: CorpusConfig, split: Split, task: Task, seed: int = 0) -> None:
        if task not in self.tasks:
            known = ", ".join(sorted(self.tasks))
            raise ValueError(f"{config.corpus_type} has no references for task {task}; it knows {known}.")
        self.config = config
        self.split = split
        self.task = task
        self.seed = seed

    @property
    @abstractmethod
    def num_sources(self) -> int:
        """C, the number of references of every example."""

    @property
    def classes(self) -> Sequence[str]:
        """The values of ``class`` in the metadata of training examples, for corpora of task SV."""
        return ()

    @abstractmethod
    def __len__(self) -> int:
        """The number of examples in an epoch."""

    @abstractmethod
    def example(self, epoch: int, index: int) -> Example:
        """The example at an index, as drawn in an epoch."""

    @property
    def has_timelines(self) -> bool:
        """Whether its examples say who talks when."""
        return False

    def inventory(self) -> Iterator[tuple[str, Path | None]]:
        """Everything that examples are drawn from, in a fixed order: a text, and a file where there is one.

        The text names files without the folder of the corpus.
        """
        return iter(())

    def details(self) -> Iterator[tuple[str, Path | None]]:
        """As ``inventory``, with all else that the examples are made of: layers, conditions, turns, words."""
        return self.inventory()

    def state(self) -> str:
        """Digest of all details and of the sizes and times of their files, which are not opened.

        It changes when a file is replaced or touched; the fingerprint, which training compares, does not.
        """
        digest = hashlib.sha256(f"{self.config.corpus_type} {len(self)}".encode())
        for text, path in self.details():
            version = version_of(path) if path is not None else ""
            digest.update(f"\n{text}\t{version}".encode(errors="surrogateescape"))
        return digest.hexdigest()[:16]

    def fingerprint(self) -> str:
        """Hash of the items, their order and the sizes of their files; no file is opened."""
        digest = hashlib.sha256(f"{self.config.corpus_type} {len(self)}".encode())
        for text, path in self.inventory():
            size = path.stat().st_size if path is not None else 0
            digest.update(f"\n{text}\t{size}".encode(errors="surrogateescape"))
        return digest.hexdigest()

    def random(self, epoch: int, index: int) -> np.random.Generator:
        """Generator of one draw: by seed, epoch and index in training, else by the index alone."""
        seed, epoch = (self.seed, epoch) if self.split is Split.TRAIN else (0, 0)
        key = [seed, _SPLIT_NUMBERS[self.split], epoch, index]
        # Words of 32 bits give the same numbers as integers of any size, in half the time.
        return np.random.default_rng(np.array(key, np.uint32) if seed < 2**32 else key)


CORPUS_REGISTRY: Registry[Corpus] = Registry("corpus")
"""Every corpus by its name."""

CorpusT = TypeVar("CorpusT", bound=Corpus)


def register_corpus(name: str, config_class: type[CorpusConfig]) -> Callable[[type[CorpusT]], type[CorpusT]]:
    """Register a corpus class under a name.

    Raises:
        ValueError: If the name is taken.
    """

    def register(corpus_class: type[CorpusT]) -> type[CorpusT]:
        corpus_class.config_class = config_class
        CORPUS_REGISTRY.add(name, corpus_class)
        return corpus_class

    return register
