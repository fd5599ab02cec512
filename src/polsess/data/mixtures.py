"""Mixtures of mixtures, for training without references (MixIT).

Shapes: N mixtures, T samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from polsess.data.base import Corpus, Example
from polsess.text_tables import counted


class MixturesOfMixtures(Corpus):
    """Examples that are sums of mixtures of another corpus; the mixtures are the references.

    Args:
        corpus: Corpus whose mixtures are summed; its references are not used.
        num_mixtures: N, number of mixtures in a sum.

    Raises:
        ValueError: If the corpus has fewer examples.
    """

    def __init__(self, corpus: Corpus, num_mixtures: int = 2) -> None:
        super().__init__(corpus.config, corpus.split, corpus.task, corpus.seed)
        if len(corpus) < num_mixtures:
            raise ValueError(
                f"{corpus.config.corpus_type}, {corpus.split}: {counted(len(corpus), 'example')}, but "
                f"{num_mixtures} different ones make a mixture of mixtures."
            )
        self.corpus = corpus
        self.num_mixtures = num_mixtures

    @property
    def num_sources(self) -> int:
        """N."""
        return self.num_mixtures

    def __len__(self) -> int:
        """Number of examples of the corpus."""
        return len(self.corpus)

    def inventory(self) -> Iterator[tuple[str, Path | None]]:
        """Inventory of the corpus."""
        return self.corpus.inventory()

    def example(self, epoch: int, index: int) -> Example:
        """Sum of the example at the index and random others, cut to the shortest."""
        others = self.random(epoch, index).choice(len(self) - 1, self.num_mixtures - 1, replace=False)
        chosen = [index, *((index + 1 + int(other)) % len(self) for other in others)]
        parts = [self.corpus.example(epoch, each) for each in chosen]
        length = min(len(part.mixture) for part in parts)
        mixtures = torch.stack([part.mixture[:length] for part in parts])
        shared = set.intersection(*(set(part.metadata.items()) for part in parts))
        return Example(
            mixture=mixtures.sum(0),
            references=mixtures,
            identifier="+".join(part.identifier for part in parts),
            metadata=dict(sorted(shared)),
        )
