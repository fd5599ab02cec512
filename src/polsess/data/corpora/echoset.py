"""EchoSet: two speakers and noise in rooms of Matterport3D; the references keep their reverberation.

Folders ``<split>/<scene>/<room>/<speaker>_<speaker>`` hold ``mix.wav``, ``spk1_reverb.wav`` and
``spk2_reverb.wav``, at 16 kHz and 6 s long, also below the folders that the published archive wraps around
them. Source: Xu, Li, Chen, Hu (2025), "TIGER", https://arxiv.org/abs/2410.01469.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from polsess.audio import list_sounds
from polsess.data.base import register_corpus
from polsess.data.corpora.stored_corpus import StoredCorpus, StoredCorpusConfig
from polsess.data.corpora.stored_mixture import StoredMixture
from polsess.tasks import Task

_SOURCES = ("spk1_reverb", "spk2_reverb")


class EchoSetConfig(StoredCorpusConfig):
    """Place of EchoSet."""

    corpus_type: Literal["echoset"] = "echoset"
    sample_rate: Literal[16000] = 16000
    """Rate in Hz of all files."""
    root: Path
    """Folder with ``train``, ``val`` and ``test``, or the one into which the archive was unpacked."""


@register_corpus("echoset", EchoSetConfig)
class EchoSet(StoredCorpus):
    """EchoSet; mixtures and references of unlike length end with the shortest."""

    config: EchoSetConfig

    @property
    def num_speakers(self) -> int:
        """Two."""
        return 2

    @property
    def ends_with_shortest(self) -> bool:
        return True

    def fitting_tasks(self) -> frozenset[Task]:
        return frozenset({Task.SB, Task.EB})

    def list_mixtures(self) -> list[StoredMixture]:
        root, split = self.config.root, str(self.split)
        if not root.is_dir():
            raise FileNotFoundError(f"data.corpus.root: no folder at {root}.")
        found = [
            path
            for path in list_sounds(root).paths
            if path.stem == "mix" and len(path.parents) > 4 and path.parents[3].name == split
        ]
        places = {path.parents[3] for path in found}
        if len(places) != 1:
            state = "no" if not places else "more than one"
            raise FileNotFoundError(
                f"data.corpus.root: {state} folder {split}/<scene>/<room>/<utterance> with mix.wav in {root}."
            )
        return [_mixture(path) for path in found]


def _mixture(path: Path) -> StoredMixture:
    scene, room, utterance = path.parts[-4:-1]
    sources = tuple(path.with_stem(name) for name in _SOURCES)
    metadata: dict[str, str | float] = {"scene": scene, "room": room}
    if re.fullmatch(r"\d+_\d+", utterance):  # the speakers of LibriSpeech
        metadata["speakers"] = utterance.replace("_", "-")
    return StoredMixture(f"{scene}-{room}-{utterance}", path, sources, metadata)
