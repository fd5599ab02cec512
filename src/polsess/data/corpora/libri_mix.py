"""Libri2Mix and Libri3Mix: LibriSpeech mixed, with WHAM!'s noise or without.

Cosentino, Pariente, Cornell, Deleforge, Vincent (2020), "LibriMix", https://arxiv.org/abs/2005.11262. The
layout is that of the authors' scripts: ``wav8k|wav16k / min|max / train-100, train-360, dev, test /
mix_clean, mix_both, mix_single, s1, s2, s3``, with lists in ``wav8k|wav16k / min|max / metadata``.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

from polsess.data.base import Split, register_corpus
from polsess.data.corpora.stored_corpus import StoredCorpus, StoredCorpusConfig
from polsess.data.corpora.stored_mixture import StoredMixture, list_parallel, mixtures_of, rate_folder
from polsess.data.tables import cell, read_csv, resolve, whole_number
from polsess.tasks import Task


class LibriMixConfig(StoredCorpusConfig):
    """Place of the corpus and choice of its mixtures."""

    corpus_type: Literal["libri_mix"] = "libri_mix"
    sample_rate: Literal[8000, 16000] = 8000
    """Rate in Hz, which picks ``wav8k`` or ``wav16k``."""
    root: Path
    """Folder with ``wav8k`` or ``wav16k``, or with ``Libri2Mix`` or ``Libri3Mix`` that hold them."""
    num_speakers: Literal[2, 3] = 2
    mode: Literal["min", "max"] = "min"
    """Whether mixtures end with the shortest or the longest speaker."""
    mixture: Literal["mix_clean", "mix_both", "mix_single"] = "mix_both"
    """Speakers alone, speakers with noise, or the first speaker with noise."""
    train_subset: Literal["train-100", "train-360"] = "train-100"
    use_lists: bool = False
    """Whether the CSVs in ``metadata`` list the mixtures, e.g. a subset; else the folders do. Paths of
    another machine are looked up in this corpus."""


@register_corpus("libri_mix", LibriMixConfig)
class LibriMix(StoredCorpus):
    """Libri2Mix or Libri3Mix."""

    config: LibriMixConfig

    @property
    def num_speakers(self) -> int:
        """Two or three, or one in ``mix_single``."""
        return 1 if self.config.mixture == "mix_single" else self.config.num_speakers

    def fitting_tasks(self) -> frozenset[Task]:
        return mixtures_of(self.config.mixture)

    def list_mixtures(self) -> list[StoredMixture]:
        config = self.config
        folder = (
            rate_folder(config.root, [f"Libri{config.num_speakers}Mix"], config.sample_rate) / config.mode
        )
        subset = {Split.TRAIN: config.train_subset, Split.VAL: "dev", Split.TEST: "test"}[self.split]
        if config.use_lists:
            found = self._from_list(folder / "metadata" / f"mixture_{subset}_{config.mixture}.csv")
        else:
            sources = [f"s{number}" for number in range(1, self.num_speakers + 1)]
            found = list_parallel(folder / subset, config.mixture, sources)
        return [replace(one, metadata={"speakers": _speakers(one.identifier)}) for one in found]

    def _from_list(self, table: Path) -> list[StoredMixture]:
        columns = [f"source_{number}_path" for number in range(1, self.num_speakers + 1)]
        recordings = []
        for number, row in read_csv(table, ["mixture_ID", "mixture_path", *columns, "length"]):
            length = cell(table, number, row, "length")
            if (num_samples := whole_number(length)) is None:
                raise ValueError(
                    f"{table}, row {number}, length: expected a number of samples, got '{length}'."
                )
            mixture, *sources = (
                resolve(cell(table, number, row, column), table.parent)
                for column in ("mixture_path", *columns)
            )
            name = cell(table, number, row, "mixture_ID")
            recordings.append(StoredMixture(name, mixture, tuple(sources), num_samples=num_samples))
        return recordings


def _speakers(name: str) -> str:
    """From a name such as ``4077-13751-0001_6930-75918-0010``."""
    return "-".join(utterance.split("-")[0] for utterance in name.split("_"))
