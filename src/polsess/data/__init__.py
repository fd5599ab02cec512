"""Corpora, one file each, and the batches made of them. Importing this package registers every corpus."""

import importlib
import pkgutil

from polsess.data import corpora
from polsess.data.base import (
    CORPUS_REGISTRY,
    Corpus,
    CorpusConfig,
    Example,
    Split,
    register_corpus,
)
from polsess.data.corpus_factory import create_corpus, list_corpora, parse_corpus_config
from polsess.data.loader import Batch, DataConfig, EpochSampler, LoadingError, collate, create_loader

importlib.import_module(f"{__name__}.polsess")
for _module in pkgutil.iter_modules(corpora.__path__, prefix=f"{corpora.__name__}."):
    importlib.import_module(_module.name)

__all__ = [
    "CORPUS_REGISTRY",
    "Batch",
    "Corpus",
    "CorpusConfig",
    "DataConfig",
    "EpochSampler",
    "Example",
    "LoadingError",
    "Split",
    "collate",
    "create_corpus",
    "create_loader",
    "list_corpora",
    "parse_corpus_config",
    "register_corpus",
]
