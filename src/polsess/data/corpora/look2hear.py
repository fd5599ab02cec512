"""Lists of Look2Hear, for Echo2Mix (EchoSet), LRS2-2Mix and others: JSON files of paths and lengths.

A folder per split holds ``mix.json`` (or ``mix_both.json``, …), ``s1.json``, ``s2.json``: lists of
``[path, samples]`` whose entries belong together by their place. Source: https://github.com/JusperLee/SPMamba.
"""

from __future__ import annotations

from pathlib import Path, PureWindowsPath
from typing import Literal

from pydantic import Field

from polsess.data.base import Split, register_corpus
from polsess.data.corpora.stored_corpus import StoredCorpus, StoredCorpusConfig
from polsess.data.corpora.stored_mixture import StoredMixture, mixtures_of
from polsess.data.tables import resolve, whole_number
from polsess.files import read_json
from polsess.tasks import Task

_MAX_BYTES = 2**30


class Look2HearConfig(StoredCorpusConfig):
    """Place of the lists and choice of mixtures."""

    corpus_type: Literal["look2hear"] = "look2hear"
    root: Path
    """Folder with one folder per split, e.g. ``tr``, ``cv`` (or ``val``, ``dev``) and ``tt``."""
    mixture: Literal["mix", "mix_clean", "mix_both", "mix_single"] = "mix"
    """Name of the list of mixtures: with noise, clean, with noise, one speaker with noise."""
    num_speakers: int = Field(default=2, ge=2, le=3)
    """Number of lists of sources; ``mix_single`` has one."""


@register_corpus("look2hear", Look2HearConfig)
class Look2Hear(StoredCorpus):
    """Recordings named by JSON lists; files of another rate are resampled."""

    config: Look2HearConfig

    @property
    def num_speakers(self) -> int:
        """Number of sources: as configured, or one in ``mix_single``."""
        return 1 if self.config.mixture == "mix_single" else self.config.num_speakers

    @property
    def file_sample_rate(self) -> int | None:
        """Unknown: the lists do not give it."""
        return None

    def fitting_tasks(self) -> frozenset[Task]:
        return mixtures_of(self.config.mixture)

    def list_mixtures(self) -> list[StoredMixture]:
        folder = self._folder()
        names = [self.config.mixture, *(f"s{number}" for number in range(1, self.num_speakers + 1))]
        lists = [read_list(folder / f"{name}.json") for name in names]
        lengths = {name: len(entries) for name, entries in zip(names, lists, strict=True)}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"{folder}: the lists differ in length: {lengths}.")
        found = []
        for index, ((mixture, num_samples), *sources) in enumerate(zip(*lists, strict=True)):
            name = f"{index:05d}-{PureWindowsPath(mixture).stem}"  # many corpora call every mixture mix.wav
            paths = tuple(resolve(source, folder) for source, _ in sources)
            found.append(StoredMixture(name, resolve(mixture, folder), paths, num_samples=num_samples))
        return found

    def _folder(self) -> Path:
        if not (root := self.config.root).is_dir():
            raise FileNotFoundError(f"data.corpus.root: no folder at {root}.")
        found = sorted(one for one in root.iterdir() if Split.named(one.name) is self.split and one.is_dir())
        if len(found) != 1:
            names = ", ".join(one.name for one in found) or "no folder is called so"
            raise FileNotFoundError(
                f"data.corpus.root: expected one folder of split '{self.split}' in {root}, got: {names}."
            )
        return found[0]


def read_list(path: Path) -> list[tuple[str, int]]:
    """Paths and lengths in samples.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not such a list.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file.")
    content = read_json(path, expected=None, max_bytes=_MAX_BYTES)
    if not isinstance(content, list) or not content:
        raise ValueError(f"{path}: expected a list of [path, samples], got {content!r:.60}.")
    found = []
    for index, entry in enumerate(content):
        fits = isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], str)
        length = whole_number(str(entry[1])) if fits and type(entry[1]) in (int, float) else None
        if length is None:
            raise ValueError(f"{path}, entry {index}: expected [path, samples], got {entry!r:.60}.")
        found.append((entry[0], length))
    return found
