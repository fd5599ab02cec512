"""WHAM! and WHAMR!: WSJ0-2mix with recorded noise, and with reverberation.

Wichern et al. (2019), "WHAM!", https://arxiv.org/abs/1907.01160; Maciejewski et al. (2020), "WHAMR!",
https://arxiv.org/abs/1910.10279. The layout is that of the authors' scripts: ``wav8k|wav16k / min|max /
tr|cv|tt / mix_clean, mix_both, mix_single, s1, s2``, in WHAMR! each followed by ``_anechoic`` or ``_reverb``.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

from polsess.data.base import register_corpus
from polsess.data.corpora.stored_corpus import StoredCorpus, StoredCorpusConfig
from polsess.data.corpora.stored_mixture import StoredMixture, list_parallel, mixtures_of, rate_folder
from polsess.data.corpora.wsj0_mix import SPLIT_FOLDERS, wsj0_conditions
from polsess.tasks import Task


class WHAMConfig(StoredCorpusConfig):
    """Place of WHAM! and choice of its mixtures."""

    corpus_type: Literal["wham"] = "wham"
    sample_rate: Literal[8000, 16000] = 8000
    """Rate in Hz, which picks ``wav8k`` or ``wav16k``."""
    root: Path
    """Folder with ``wav8k`` or ``wav16k``."""
    mode: Literal["min", "max"] = "min"
    """Whether mixtures end with the shortest or the longest speaker."""
    mixture: Literal["mix_clean", "mix_both", "mix_single"] = "mix_both"
    """Two speakers, two speakers and noise, or the first speaker and noise."""


class WHAMRConfig(WHAMConfig):
    """Place of WHAMR!, choice of its mixtures and target."""

    corpus_type: Literal["whamr"] = "whamr"  # type: ignore[assignment]
    room: Literal["anechoic", "reverb"] = "reverb"
    """Version of the mixtures."""
    target: Literal["anechoic", "reverb"] = "anechoic"
    """Version of the references; ``anechoic`` with ``room: reverb`` asks for dereverberation too."""


@register_corpus("wham", WHAMConfig)
class WHAM(StoredCorpus):
    """WHAM!."""

    config: WHAMConfig

    @property
    def num_speakers(self) -> int:
        """Two, or one in ``mix_single``."""
        return 1 if self.config.mixture == "mix_single" else 2

    def fitting_tasks(self) -> frozenset[Task]:
        return mixtures_of(self.config.mixture)

    def list_mixtures(self) -> list[StoredMixture]:
        return self._list(self.config.mixture, "")

    def _list(self, mixture: str, suffix: str) -> list[StoredMixture]:
        folder = rate_folder(self.config.root, [], self.config.sample_rate)
        folder = folder / self.config.mode / SPLIT_FOLDERS[self.split]
        sources = [f"s{number}{suffix}" for number in range(1, self.num_speakers + 1)]
        listed = list_parallel(folder, mixture, sources)
        return [replace(one, metadata=wsj0_conditions(one.identifier)) for one in listed]


@register_corpus("whamr", WHAMRConfig)
class WHAMR(WHAM):
    """WHAMR!."""

    config: WHAMRConfig

    def fitting_tasks(self) -> frozenset[Task]:
        """As WHAM!; also EB where reverberation is to be removed."""
        found = super().fitting_tasks()
        dereverberates = self.config.room == "reverb" and self.config.target == "anechoic"
        return found | {Task.EB} if dereverberates and self.num_speakers > 1 else found

    @property
    def background_holds_speech(self) -> bool:
        """True where the references lack the reverberation of the mixture, or the reverse."""
        return self.config.room != self.config.target

    def list_mixtures(self) -> list[StoredMixture]:
        return self._list(f"{self.config.mixture}_{self.config.room}", f"_{self.config.target}")
