"""PolSESS: simulated noisy Polish conversations with every layer in its own file.

Each mixture is the sum of its speakers, an acoustic scene, a sound event and, indoors, the reverberation of
the speakers and of the event.

Shapes: C sources, T samples.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field, PositiveInt, field_validator, model_validator

from polsess.audio import Samples, resample
from polsess.data.base import Corpus, CorpusConfig, Example, Split, register_corpus
from polsess.data.mixing import Range, Remix, check_range
from polsess.data.polsess.layer_files import STEP, Form, LayerFiles
from polsess.data.polsess.layers import (
    VARIANTS,
    Recipe,
    create_recipe,
    expand_variants,
    tasks_of,
    variants_of,
)
from polsess.data.polsess.remix import Recomposer
from polsess.data.polsess.table import PolSESSRow, find_table, read_table
from polsess.data.timeline_files import match_speakers, read_timeline, timeline_path, transcript_path
from polsess.data.transcripts import read_stm
from polsess.schema import Schema
from polsess.tasks import SEPARATION_TASKS, Task
from polsess.timelines import Timeline, conditions_of, crop_timeline


class CurriculumStage(Schema):
    """Variants that training draws from an epoch on."""

    epoch: int = Field(ge=0)
    """First epoch of the stage."""
    variants: tuple[str, ...] = Field(min_length=1)
    """Names of variants; ``C`` means ``C_in`` and ``C_out``."""
    lr_scheduler: Literal["start"] | None = None
    """``start`` keeps the learning rate up until this stage."""

    @field_validator("variants")
    @classmethod
    def _expand(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return expand_variants(names)


class PolSESSConfig(CorpusConfig):
    """Place of the corpus, choice of its rows and of the layers in their mixtures."""

    corpus_type: Literal["polsess"] = "polsess"
    root: Path
    """Folder with ``train``, ``val`` and ``test``."""
    table: Path | None = None
    """CSV of a split, with ``{split}`` in place of its name; null searches the root."""
    variants: tuple[str, ...] = VARIANTS
    """Variants that may be drawn; rows with none of them are left out. ``C`` means ``C_in`` and ``C_out``."""
    each_variant: bool = False
    """Validation and test only: serve every row in each of its variants instead of one drawn variant."""
    curriculum: tuple[CurriculumStage, ...] = ()
    """Training only: variants by epoch; ``variants`` applies before the first stage."""
    remix: Remix | None = None
    """Training only: new conversations of the corpus's own layers. Speaker 1 stays; speaker 2, the scene and
    the event, each with its reverberation, are drawn in every epoch from rows of the same location."""
    background_gain_db: Range = (0.0, 0.0)
    """Training only: gain of the scene and the event, uniform in dB."""
    target: Literal["dry", "reverberant"] = "dry"
    """Whether references hold the speakers' own reverberation where the mixture does."""
    max_examples: PositiveInt | dict[Split, PositiveInt] | None = None
    """A random subset of the rows, the same for every seed: of every split, or by split, ``{val: 1000}``."""
    ssr_range_db: Range | None = None
    """Range of the level of speaker 1 over speaker 2; other rows are left out."""
    scene_classes: tuple[str, ...] | None = None
    """Classes of scenes; other rows are left out."""
    location: Literal["indoor", "outdoor"] | None = None
    """Location of the scene; other rows are left out."""
    same_speaker_pairs: bool = True
    """Whether rows are used whose utterances come from one speaker."""

    @field_validator("variants")
    @classmethod
    def _expand(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return expand_variants(names)

    @model_validator(mode="after")
    def _check_curriculum(self) -> PolSESSConfig:
        epochs = [stage.epoch for stage in self.curriculum]
        if epochs != sorted(set(epochs)):
            raise ValueError(f"curriculum: the epochs of the stages must rise, got {epochs}.")
        check_range("background_gain_db", self.background_gain_db, -60, 60)
        return self

    @property
    def schedule_from_epoch(self) -> int | None:
        """The epoch of the first stage that starts the schedule of the learning rate."""
        return next((stage.epoch for stage in self.curriculum if stage.lr_scheduler == "start"), None)

    @property
    def recomposes(self) -> bool:
        """Whether training sums layers instead of subtracting some from the mixture."""
        return self.remix is not None or self.background_gain_db != (0.0, 0.0)


@register_corpus("polsess", PolSESSConfig)
class PolSESS(Corpus):
    """One split of a PolSESS corpus under one task."""

    config: PolSESSConfig
    tasks = SEPARATION_TASKS | {Task.OSD}

    def __init__(self, config: PolSESSConfig, split: Split, task: Task, seed: int = 0) -> None:
        super().__init__(config, split, task, seed)
        self.table = find_table(config.root, split, config.table)
        rows = read_table(self.table)
        self.num_speakers = rows[0].num_speakers
        _check_identifiers(self.table, rows)
        self.rows = self._select(rows)
        self.files = LayerFiles(str(config.root / split), self.table)
        self._check_task()
        self._check_rate()
        self._recomposer = Recomposer(self.files, self.rows, config.remix, config.background_gain_db)
        self._cases = [
            (row, name) for row in self.rows for name in config.variants if name in variants_of(row.indoor)
        ]
        self._rows_by_variants: dict[tuple[str, ...], list[PolSESSRow]] = {}
        for stage in config.curriculum if split is Split.TRAIN else ():
            self._rows_with(stage.variants)  # a stage without rows is an error now, not in its epoch

    @property
    def num_sources(self) -> int:
        """C: 1 for ES and EB, the number of speakers for SB."""
        return self.task.num_sources(self.num_speakers)

    def __len__(self) -> int:
        """Number of rows in use, or of their variants."""
        return len(self._cases if self._each_variant else self.rows)

    def inventory(self) -> Iterator[tuple[str, Path | None]]:
        """The rows in use: names of all layers, and the mixture's file."""
        for row in self.rows:
            text = f"{sorted(row.files.items())} {sorted(row.metadata.items())}"
            yield text, Path(self.files.path(row, "mixFile"))

    def details(self) -> Iterator[tuple[str, Path | None]]:
        """The inventory, the files of all layers, and those of who talks when and what is said."""
        yield from self.inventory()
        for row in self.rows:
            for column in row.files:
                path = Path(self.files.path(row, column))
                yield f"{column} {path.name}", path
            mixture = Path(self.files.path(row, "mixFile"))
            for path in (timeline_path(mixture), transcript_path(mixture)) if self.has_timelines else ():
                yield path.name, path

    def example(self, epoch: int, index: int) -> Example:
        """Draw a variant, and in training a segment."""
        random = self.random(epoch, index)
        row, variant = self._cases[index] if self._each_variant else self._draw(random, epoch, index)
        recipe = create_recipe(
            self.task,
            variant,
            indoor=row.indoor,
            reverberant=self.config.target == "reverberant",
            num_speakers=self.num_speakers,
        )
        form = self.files.form(row)
        part = self._part(form, random.random())
        metadata = {**row.metadata, "variant": variant}
        if self.split is Split.TRAIN and self.config.recomposes:
            signals, changed = self._recomposer.compose(random, row, recipe, form, part)
            metadata |= changed
        else:
            signals = self._decompose(row, recipe, form, part)
        timeline = self._timeline(row, form, part) if self.has_timelines else ()
        if self.has_timelines and self.task is not Task.ES:  # whose mixtures lack the other voices
            metadata |= conditions_of(timeline)
        if form[1] != self.config.sample_rate:
            signals = resample(torch.from_numpy(signals), form[1], self.config.sample_rate).numpy()
        identifier = row.files["mixFile"].removesuffix(".wav")
        if self._each_variant:
            identifier = f"{identifier}-{variant}"
        mixture, references = torch.from_numpy(signals[0]), torch.from_numpy(signals[1:])
        example = Example(mixture, references, identifier, metadata, timeline)
        if not self.has_timelines or part[1] < form[0] or self.task is not Task.SB:
            return example
        place = Path(self.files.path(row, "mixFile"))
        rate, said = self.config.sample_rate, transcript_path(place)
        return replace(
            example,
            speakers=match_speakers(timeline, references, mixture, rate, timeline_path(place)),
            transcript=read_stm(said, {said.stem}, form[0] / form[1]) if said.is_file() else None,
        )

    @cached_property
    def has_timelines(self) -> bool:
        """Whether RTTM files lie beside the mixtures, and these are not changed."""
        path = timeline_path(Path(self.files.path(self.rows[0], "mixFile")))
        return path.is_file() and not (self.split is Split.TRAIN and self.config.recomposes)

    def _timeline(self, row: PolSESSRow, form: Form, part: tuple[int, int]) -> Timeline:
        """The turns within a part of a mixture, at the files' rate."""
        path = timeline_path(Path(self.files.path(row, "mixFile")))
        (start, count), (num_samples, rate) = part, form
        timeline = read_timeline(path, {path.stem}, num_samples / rate)
        return crop_timeline(timeline, start / rate, (start + count) / rate)

    @property
    def _each_variant(self) -> bool:
        return self.config.each_variant and self.split is not Split.TRAIN

    def _draw(self, random: np.random.Generator, epoch: int, index: int) -> tuple[PolSESSRow, str]:
        variants = self._variants(epoch)
        rows = self._rows_with(variants)
        row = rows[index % len(rows)]  # a stage of the curriculum with fewer rows draws some again
        possible = variants_of(row.indoor)
        allowed = [name for name in variants if name in possible]
        return row, allowed[random.integers(len(allowed))]

    def _check_rate(self) -> None:
        """Refuse a first mixture of a lower rate than is asked for; a higher one is resampled, and said."""
        rate = self.files.form(self.rows[0])[1] if self.rows else self.config.sample_rate
        if rate < self.config.sample_rate:
            raise ValueError(
                f"{self.config.root}: its files have {rate} Hz, but data.corpus.sample_rate is "
                f"{self.config.sample_rate}: there is nothing above {rate // 2} Hz in them. Set it to "
                f"{rate}, or use the corpus of {self.config.sample_rate} Hz."
            )
        if rate > self.config.sample_rate:
            warnings.warn(
                f"{self.config.root}: its files have {rate} Hz and are resampled to data.corpus.sample_rate, "
                f"{self.config.sample_rate} Hz. For all of their band, set it to {rate}.",
                stacklevel=3,
            )

    def _check_task(self) -> None:
        fitting = tasks_of(self.num_speakers)
        if self.task not in fitting:
            raise ValueError(
                f"{self.table}: mixtures of {self.num_speakers} speaker do not fit task {self.task}, only "
                f"{', '.join(sorted(fitting))}."
            )
        if self.task is Task.OSD and not self.has_timelines:
            raise ValueError(
                f"{self.table}: task OSD learns from RTTM files beside mixtures that stay as they are. "
                "Make them with polsess data generate --conversations; leave out remix, background_gain_db."
            )
        if self.config.remix is not None and self.num_speakers == 1:
            raise ValueError(f"data.corpus.remix: {self.table} has mixtures of one speaker; leave it out.")

    def _rows_with(self, variants: tuple[str, ...]) -> list[PolSESSRow]:
        """Rows that have one of these variants."""
        if variants not in self._rows_by_variants:
            rows = [row for row in self.rows if set(variants) & set(variants_of(row.indoor))]
            if not rows:
                raise ValueError(f"{self.table}: no row can be {' or '.join(variants)}.")
            self._rows_by_variants[variants] = rows
        return self._rows_by_variants[variants]

    def _variants(self, epoch: int) -> tuple[str, ...]:
        stages = [stage for stage in self.config.curriculum if stage.epoch <= epoch]
        if self.split is Split.TRAIN and stages:
            return stages[-1].variants
        return self.config.variants

    def _select(self, rows: list[PolSESSRow]) -> list[PolSESSRow]:
        stages = self.config.curriculum if self.split is Split.TRAIN else ()
        allowed = {name for names in (self.config.variants, *(s.variants for s in stages)) for name in names}
        kept = [row for row in rows if allowed & set(variants_of(row.indoor)) and self._passes(row)]
        if not kept:
            raise ValueError(f"{self.table}: none of its {len(rows)} rows passes the filters and variants.")
        limits = self.config.max_examples
        limit = limits.get(self.split) if isinstance(limits, dict) else limits
        if limit is not None and limit < len(kept):
            generator = torch.Generator().manual_seed(0)
            chosen = torch.randperm(len(kept), generator=generator)[:limit]
            kept = [kept[i] for i in sorted(chosen.tolist())]
        return kept

    def _passes(self, row: PolSESSRow) -> bool:
        config = self.config
        if config.location is not None and row.indoor != (config.location == "indoor"):
            return False
        if config.ssr_range_db is not None:
            low, high = config.ssr_range_db
            if not low <= float(row.metadata["ssr_db"]) <= high:
                return False
        if config.scene_classes is not None and row.metadata["scene"] not in config.scene_classes:
            return False
        return config.same_speaker_pairs or len(set(row.speakers)) == row.num_speakers

    def _part(self, form: Form, position: float) -> tuple[int, int]:
        """The first sample and the length to read, at the files' rate."""
        num_samples, rate = form
        if self.split is not Split.TRAIN or self.config.segment_seconds is None:
            return 0, num_samples
        length = min(round(self.config.segment_seconds * rate), num_samples)
        return int(position * (num_samples - length + 1)), length

    def _decompose(self, row: PolSESSRow, recipe: Recipe, form: Form, part: tuple[int, int]) -> Samples:
        """Mixture minus some layers, and the references, ``[1 + C, T]``."""
        start, num_samples = part
        signals = np.empty((1 + len(recipe.references), num_samples), np.float32)
        buffer = np.empty(num_samples, np.int16)
        mixture, *references = signals
        mixture[:] = self.files.read(row, "mixFile", form, start, buffer)
        for column in recipe.subtract:
            mixture -= self.files.read(row, column, form, start, buffer)
        mixture *= STEP
        for reference, (first, *more) in zip(references, recipe.references, strict=True):
            reference[:] = self.files.read(row, first, form, start, buffer)
            for column in more:
                reference += self.files.read(row, column, form, start, buffer)
            reference *= STEP
        return signals


def _check_identifiers(table: Path, rows: Sequence[PolSESSRow]) -> None:
    seen: dict[str, int] = {}
    for row in rows:
        name = row.files["mixFile"]
        first = seen.setdefault(name, row.number)
        if first != row.number:
            raise ValueError(f"{table}, row {row.number}, column mixFile: {name} is in row {first} too.")
