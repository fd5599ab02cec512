"""From a finished evaluation back to its sounds: the mixtures, the references and the estimates again.

Shapes: C sources, T samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from polsess.checkpoints import load_model
from polsess.data import Corpus, Example, Split, create_corpus, parse_corpus_config
from polsess.evaluation.journal import ESTIMATES, read_evaluation
from polsess.evaluation.results import Evaluation, Row
from polsess.evaluation.runner import digest_of
from polsess.evaluation.systems import FolderSystem, ModelSystem, System
from polsess.inference import pick_device
from polsess.tasks import Task

Signals = NDArray[np.float32]


@dataclass(frozen=True)
class Heard:
    """The sounds of one utterance."""

    row: Row
    """Its scores."""
    mixture: Signals
    """``[T]``."""
    references: Signals
    """``[C, T]``."""
    estimates: Signals
    """``[C, T]`` in the order of the references, at the level that the system gave them."""
    sample_rate: int
    """In Hz."""


class Reopened:
    """A finished evaluation with access to its sounds.

    The mixtures are read from the corpus that the summary names. The estimates are those that
    ``evaluate --save-estimates`` kept; else they are read or computed again where the summary says.

    Args:
        folder: Holds the table and ``summary.json``.
        device: Where a model runs, if one must.
    """

    def __init__(self, folder: Path, device: str = "auto") -> None:
        self.folder = folder
        self.evaluation: Evaluation = read_evaluation(folder)
        self._device = device
        self._corpus: Corpus | None = None
        self._system: System | None = None

    def hear(self, identifier: str) -> Heard:
        """The sounds of an utterance.

        Raises:
            ValueError: If there is no such utterance, it has no estimates, or the data has changed since.
            OSError: If the corpus or the estimates are not there any more.
        """
        index = self._index(identifier)
        row = self.evaluation.rows[index]
        if row.failure:
            raise ValueError(f"{identifier}: has no estimates ({row.failure}).")
        example = self._example(index)
        if self._system is None:
            self._system = self._open_system()
        estimates = self._system.estimate(example)
        ordered = estimates[list(row.scores.permutation)] if row.scores.permutation else estimates
        rate = int(self.evaluation.settings["sample_rate"])
        return Heard(row, example.mixture.numpy(), example.references.numpy(), ordered, rate)

    def _index(self, identifier: str) -> int:
        for index, row in enumerate(self.evaluation.rows):
            if row.identifier == identifier:
                return index
        raise ValueError(f"{self.folder}: no utterance '{identifier}' in it.")

    def _example(self, index: int) -> Example:
        if self._corpus is None:
            settings = self.evaluation.settings
            config = parse_corpus_config(settings["corpus"], f"{self.folder}: corpus")
            self._corpus = create_corpus(
                config, Split(settings["split"]), Task(settings["task"]), settings["seed"]
            )
        example, row = self._corpus.example(0, index), self.evaluation.rows[index]
        if (example.identifier, digest_of(example)) != (row.identifier, row.content):
            raise ValueError(
                f"{row.identifier}: the data has changed since {self.folder} was evaluated; evaluate anew."
            )
        return example

    def _open_system(self) -> System:
        origin, name = self.evaluation.origin, self.evaluation.system
        if (self.folder / ESTIMATES).is_dir():
            return FolderSystem(self.folder / ESTIMATES)
        if "estimates" in origin:
            return FolderSystem(Path(origin["estimates"]), origin["system"])
        if "model" not in origin:
            raise ValueError(
                f"{self.folder}: does not say where the estimates came from; evaluate with --save-estimates."
            )
        system = ModelSystem(load_model(origin["model"]), name, pick_device(self._device))
        if system.identity != self.evaluation.settings.get("identity"):
            raise ValueError(f"{origin['model']}: is another model now than {self.folder} evaluated.")
        return system
