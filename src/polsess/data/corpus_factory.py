"""Creating a corpus from plain data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from polsess.data.base import CORPUS_REGISTRY, Corpus, CorpusConfig, Split
from polsess.data.mixtures import MixturesOfMixtures
from polsess.schema import ConfigError, parse, suggest
from polsess.tasks import Task


def parse_corpus_config(data: Mapping[str, Any] | CorpusConfig, where: str = "data.corpus") -> CorpusConfig:
    """Read a corpus's configuration; ``corpus_type`` picks the class.

    Raises:
        ConfigError: If the corpus is unknown, or a key or value is wrong.
    """
    if isinstance(data, CorpusConfig):
        return data
    if not isinstance(data, Mapping) or not isinstance(data.get("corpus_type"), str):
        raise ConfigError(
            f"{where}.corpus_type: missing; write the name of a corpus."
            + suggest("", list_corpora(), "Available")
        )
    return parse(CORPUS_REGISTRY.find(data["corpus_type"]).config_class, data, where)


def create_corpus(
    config: CorpusConfig, split: Split, task: Task, seed: int = 0, *, num_mixtures: int = 1
) -> Corpus:
    """Open one split of a corpus.

    Args:
        config: The corpus's configuration.
        split: The part of it.
        task: Task of the model, which decides the references.
        seed: Seed of every draw in training.
        num_mixtures: Mixtures that are summed to one example and are its references (MixIT).

    Raises:
        FileNotFoundError: If the corpus is not where the configuration says.
        ValueError: If the corpus does not fit the task or its files are wrong.
    """
    corpus = CORPUS_REGISTRY.find(config.corpus_type)(config, split, task, seed)
    return MixturesOfMixtures(corpus, num_mixtures) if num_mixtures > 1 else corpus


def list_corpora() -> list[str]:
    """The names of all corpora, sorted."""
    return sorted(CORPUS_REGISTRY)
