"""The base of every corpus whose mixtures are on disk beside their sources.

Shapes: C sources, T samples.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from polsess.audio import AudioError, read_audio, read_audio_info, resample
from polsess.data.bad_files import TolerantCorpusConfig, check_share
from polsess.data.base import Corpus, Example, Split
from polsess.data.corpora.augmentation import AugmentationConfig, Augmenter
from polsess.data.corpora.stored_mixture import Form, StoredMixture
from polsess.data.timeline_files import match_speakers, read_timeline
from polsess.data.transcripts import read_stm
from polsess.tasks import Task
from polsess.timelines import conditions_of, crop_timeline

_READERS = 8


class StoredCorpusConfig(TolerantCorpusConfig):
    """Fields of every corpus of stored mixtures."""

    augmentation: AugmentationConfig | None = None
    """Training only: changes of the mixtures."""


class StoredCorpus(Corpus):
    """The mixtures of one split; headers are checked when it is opened, samples are read in part.

    Attributes:
        mixtures: The mixtures of the split.
        refused: One line for every mixture that was left out.
    """

    config: StoredCorpusConfig

    def __init__(self, config: StoredCorpusConfig, split: Split, task: Task, seed: int = 0) -> None:
        super().__init__(config, split, task, seed)
        self._check_task()
        found = self.list_mixtures()
        _check_identifiers(found, f"{config.corpus_type}, {split}")
        with ThreadPoolExecutor(_READERS) as pool:  # waiting for a disk, not computing
            checked = list(pool.map(self._check, found, chunksize=64))
        self.refused = [each for each in checked if isinstance(each, str)]
        check_share(self.refused, len(found), config.max_bad, f"{config.corpus_type}, {split}")
        kept = [(one, form) for one, form in zip(found, checked, strict=True) if not isinstance(form, str)]
        self.mixtures = [one for one, _ in kept]
        self._forms = [form for _, form in kept]
        self._augmenter = self._create_augmenter() if split is Split.TRAIN else None

    @abstractmethod
    def list_mixtures(self) -> list[StoredMixture]:
        """List the mixtures of the split in a fixed order, at least one.

        Raises:
            FileNotFoundError: If a folder or list is missing.
            ValueError: If a list cannot be used.
        """

    @abstractmethod
    def fitting_tasks(self) -> frozenset[Task]:
        """Tasks that suit the chosen mixtures."""

    @property
    @abstractmethod
    def num_speakers(self) -> int:
        """Number of sources of a mixture."""

    @property
    def file_sample_rate(self) -> int | None:
        """Rate in Hz that all files must have; None where they may differ and are resampled."""
        return self.config.sample_rate

    @property
    def ends_with_shortest(self) -> bool:
        """Whether the files of a mixture may differ in length; all then end with the shortest."""
        return False

    @property
    def background_holds_speech(self) -> bool:
        """Whether a mixture minus its references holds parts of the voices, e.g. their reverberation."""
        return False

    @property
    def num_sources(self) -> int:
        """C, as the task asks for."""
        return self.task.num_sources(self.num_speakers)

    def __len__(self) -> int:
        """Number of mixtures."""
        return len(self.mixtures)

    def inventory(self) -> Iterator[tuple[str, Path | None]]:
        """The files of each mixture, and those that augmentation adds."""
        for recording in self.mixtures:
            for path in (recording.mixture, *recording.sources):
                yield f"{recording.identifier} {path.parent.name}/{path.name}", path
        if self._augmenter is not None:
            yield from self._augmenter.surroundings.inventory()

    def details(self) -> Iterator[tuple[str, Path | None]]:
        """The inventory, and of each mixture its conditions and its files of turns and words."""
        yield from self.inventory()
        for recording in self.mixtures:
            yield f"{recording.identifier} {sorted(recording.metadata.items())}", None
            for path in (recording.timeline, recording.transcript):
                if path is not None:
                    yield f"{recording.identifier} {path.name}", path

    def example(self, epoch: int, index: int) -> Example:
        """Read a mixture; training takes a segment at a random place and may change it."""
        if self._augmenter is not None:
            return self._augmented(self._augmenter, epoch, index)
        recording, (num_samples, rate) = self.mixtures[index], self._forms[index]
        start, count = self._segment(epoch, index, num_samples, rate)
        signals = torch.stack([_read(path, start, count) for path in self._files(recording)])
        signals = resample(signals, rate, self.config.sample_rate)
        references = self.task.references(signals[1:])
        example = Example(signals[0], references, recording.identifier, dict(recording.metadata))
        if recording.transcript is not None and count == num_samples:
            said = read_stm(recording.transcript, recording.names, num_samples / rate)
            example = replace(example, transcript=said)
        if recording.timeline is None:
            return example
        timeline = read_timeline(recording.timeline, recording.names, num_samples / rate)
        if count < num_samples:
            timeline = crop_timeline(timeline, start / rate, (start + count) / rate)
        speakers: tuple[str, ...] = ()
        if self.task is Task.SB and count == num_samples:
            rate = self.config.sample_rate
            speakers = match_speakers(timeline, signals[1:], signals[0], rate, recording.timeline)
        metadata = conditions_of(timeline) | example.metadata
        return replace(example, timeline=timeline, speakers=speakers, metadata=metadata)

    @property
    def has_timelines(self) -> bool:
        """Whether RTTM files lie beside the mixtures."""
        return any(one.timeline is not None for one in self.mixtures)

    def _augmented(self, augmenter: Augmenter, epoch: int, index: int) -> Example:
        made = augmenter.make(self.random(epoch, index), index)
        references = self.task.references(torch.from_numpy(made.references))
        identifier = self.mixtures[index].identifier
        return Example(torch.from_numpy(made.mixture), references, identifier, made.metadata)

    def _create_augmenter(self) -> Augmenter | None:
        config = self.config.augmentation
        if config is None:
            return None
        if config.remix is not None and self.num_speakers == 1:
            raise ValueError(
                "data.corpus.augmentation.remix: needs mixtures of two speakers or more, not one."
            )
        if (
            self.background_holds_speech
            and config.background_gain_db is not None
            and (config.remix or config.rooms)
        ):
            raise ValueError(
                "data.corpus.augmentation: what these mixtures hold beside their references belongs to the "
                "speakers; set background_gain_db: null to leave it out, or choose other references."
            )
        return Augmenter(
            config,
            self.mixtures,
            self._forms,
            sample_rate=self.config.sample_rate,
            segment_seconds=self.config.segment_seconds,
        )

    def _segment(self, epoch: int, index: int, num_samples: int, rate: int) -> tuple[int, int]:
        if self.split is not Split.TRAIN or self.config.segment_seconds is None:
            return 0, num_samples
        count = min(num_samples, round(self.config.segment_seconds * rate))
        return int(self.random(epoch, index).integers(num_samples - count + 1)), count

    def _files(self, recording: StoredMixture) -> list[Path]:
        """The mixture and the sources that the task needs."""
        needed = 1 if self.task is Task.ES else None
        return [recording.mixture, *recording.sources[:needed]]

    def _check(self, recording: StoredMixture) -> Form | str:
        """Samples and rate of a mixture, or the reason why it cannot be used."""
        try:
            infos = [read_audio_info(path) for path in self._files(recording)]
        except AudioError as error:
            return str(error)
        for info in infos:
            rate, length = self.file_sample_rate or infos[0].sample_rate, infos[0].num_samples
            if info.num_channels != 1:
                return f"{info.path}: has {info.num_channels} channels; expected one."
            if info.sample_rate != rate:
                return f"{info.path}: has {info.sample_rate} Hz; expected {rate} Hz."
            if info.num_samples != length and not self.ends_with_shortest:
                return f"{info.path}: has {info.num_samples} samples, its mixture has {length}."
        if recording.num_samples not in (None, infos[0].num_samples):
            return (
                f"{infos[0].path}: has {infos[0].num_samples} samples, its list says {recording.num_samples}."
            )
        return min(info.num_samples for info in infos), infos[0].sample_rate

    def _check_task(self) -> None:
        if self.task not in self.fitting_tasks():
            known = ", ".join(sorted(self.fitting_tasks()))
            raise ValueError(
                f"{self.config.corpus_type}: these mixtures do not fit task {self.task}, only {known}; "
                "choose another task or other mixtures."
            )


def _check_identifiers(mixtures: Sequence[StoredMixture], where: str) -> None:
    counts = Counter(one.identifier for one in mixtures)
    if repeated := [name for name, count in counts.items() if count > 1]:
        raise ValueError(f"{where}: '{repeated[0]}' names {counts[repeated[0]]} mixtures; names must differ.")


def _read(path: Path, start: int, num_samples: int) -> Tensor:
    samples, _ = read_audio(path, start, num_samples)
    return samples[0]
