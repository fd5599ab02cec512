"""WSJ0-2mix and WSJ0-3mix: clean mixtures of read speech.

Hershey, Chen, Le Roux, Watanabe (2016), "Deep clustering", https://arxiv.org/abs/1508.04306. The layout is
that of the authors' scripts: ``wav8k|wav16k / min|max / tr|cv|tt / mix, s1, s2, s3``.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Literal

from polsess.data.base import Split, register_corpus
from polsess.data.corpora.stored_corpus import StoredCorpus, StoredCorpusConfig
from polsess.data.corpora.stored_mixture import StoredMixture, list_parallel, rate_folder
from polsess.tasks import Task

SPLIT_FOLDERS = {Split.TRAIN: "tr", Split.VAL: "cv", Split.TEST: "tt"}
_TURN = re.compile(r"([0-9a-z]{3})[0-9a-z]{5}_(-?\d+(?:\.\d+)?)")


class WSJ0MixConfig(StoredCorpusConfig):
    """Place of the corpus and choice of its mixtures."""

    corpus_type: Literal["wsj0_mix"] = "wsj0_mix"
    sample_rate: Literal[8000, 16000] = 8000
    """Rate in Hz, which picks ``wav8k`` or ``wav16k``."""
    root: Path
    """Folder with ``wav8k`` or ``wav16k``, or with ``2speakers`` or ``3speakers`` that hold them."""
    num_speakers: Literal[2, 3] = 2
    mode: Literal["min", "max"] = "min"
    """Whether mixtures end with the shortest or the longest speaker."""


@register_corpus("wsj0_mix", WSJ0MixConfig)
class WSJ0Mix(StoredCorpus):
    """WSJ0-2mix or WSJ0-3mix."""

    config: WSJ0MixConfig
    tasks = frozenset({Task.SB})

    @property
    def num_speakers(self) -> int:
        """Two or three."""
        return self.config.num_speakers

    def fitting_tasks(self) -> frozenset[Task]:
        """SB alone: the mixtures hold nothing but the speakers."""
        return self.tasks

    def list_mixtures(self) -> list[StoredMixture]:
        count = self.config.num_speakers
        folder = rate_folder(self.config.root, [f"{count}speakers"], self.config.sample_rate)
        folder = folder / self.config.mode / SPLIT_FOLDERS[self.split]
        listed = list_parallel(folder, "mix", [f"s{number}" for number in range(1, count + 1)])
        return [replace(one, metadata=wsj0_conditions(one.identifier)) for one in listed]


def wsj0_conditions(name: str) -> dict[str, str | float]:
    """Speakers, and the level of the first over the second in dB, from a mixture's name.

    Args:
        name: Utterances, each followed by its gain in dB, e.g. ``011a0101_1.0137_20ga010m_-1.0137``.
    """
    turns = _TURN.findall(name)
    if len(turns) < 2:
        return {}
    level = float(turns[0][1]) - float(turns[1][1])
    return {"speakers": "-".join(speaker for speaker, _ in turns), "ssr_db": round(level, 2)}
