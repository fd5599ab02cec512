"""PolSESS: simulated noisy Polish conversations with every layer in its own file.

Each mixture is the sum of two speakers, an acoustic scene, a sound event and, indoors, the reverberation of
the speakers and of the event. MM-IPC (Mix Modification by Inverted Phase Cancellation) makes easier mixtures
by subtracting layers; the letters of a variant name the layers that stay: S scene, E event, R reverberation,
C none of them. Source: the PolSESS corpus and its generator.

Shapes: C sources, T samples.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from polsess.audio import AudioError, read_audio, read_audio_info, resample
from polsess.data.augmentation import Remix
from polsess.data.base import Corpus, CorpusConfig, Example, Split, register_corpus
from polsess.data.mixing import check_range
from polsess.data.polsess_table import PolSESSRow, find_table, read_table
from polsess.schema import Schema
from polsess.tasks import Task

INDOOR_VARIANTS = ("SER", "SR", "ER", "R", "C_in")
OUTDOOR_VARIANTS = ("SE", "S", "E", "C_out")
VARIANTS = (*INDOOR_VARIANTS, *OUTDOOR_VARIANTS)
"""What may be left in a mixture; C, nothing but the dry speakers, is counted apart for indoor and outdoor."""


class CurriculumStage(Schema):
    """The variants that training draws from some epoch on."""

    epoch: int = Field(ge=0)
    """The first epoch of the stage."""
    variants: tuple[str, ...] = Field(min_length=1)
    """Names of variants; ``C`` stands for both ``C_in`` and ``C_out``."""

    @field_validator("variants")
    @classmethod
    def _expand(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return expand_variants(names)


class PolSESSConfig(CorpusConfig):
    """Where the corpus is, which rows are used and what is left in their mixtures."""

    corpus_type: Literal["polsess"] = "polsess"
    root: Path
    """The folder that holds ``train``, ``val`` and ``test``."""
    table: Path | None = None
    """The CSV of a split, ``{split}`` standing for its name; null searches the root for it."""
    variants: tuple[str, ...] = VARIANTS
    """What may be drawn; rows that have none of them are left out. ``C`` stands for both of its kinds."""
    curriculum: tuple[CurriculumStage, ...] = ()
    """Training only: variants by epoch; before the first stage ``variants`` holds."""
    remix: Remix | None = None
    """Training only: new conversations of the corpus's own layers. Speaker 1 stays; speaker 2, the scene and
    the event, each with its reverberation, come from rows of the same location, drawn anew in every epoch."""
    background_gain_db: tuple[float, float] = (0.0, 0.0)
    """Training only: a gain of what is left of scene and event, uniform in dB."""
    target: Literal["dry", "reverberant"] = "dry"
    """Whether references hold the speakers' own reverberation where the mixture does."""
    max_examples: int | None = Field(default=None, ge=1)
    """A random subset of the rows of a split, the same for every seed."""
    ssr_range_db: tuple[float, float] | None = None
    """Rows whose level of speaker 1 over speaker 2 lies within."""
    scene_classes: tuple[str, ...] | None = None
    """Rows with one of these scenes."""
    location: Literal["indoor", "outdoor"] | None = None
    """Rows of one kind only."""
    same_speaker_pairs: bool = True
    """Whether rows stay in whose two utterances come from one speaker."""

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
    def recomposes(self) -> bool:
        """Whether training adds up layers instead of subtracting some from the mixture."""
        return self.remix is not None or self.background_gain_db != (0.0, 0.0)


def expand_variants(names: tuple[str, ...]) -> tuple[str, ...]:
    """Names of variants with ``C`` replaced by its two kinds, without repetition.

    Raises:
        ValueError: If a name is unknown.
    """
    expanded = [kind for name in names for kind in (("C_in", "C_out") if name == "C" else (name,))]
    if unknown := [name for name in expanded if name not in VARIANTS]:
        raise ValueError(f"unknown variant '{unknown[0]}'; known: C, {', '.join(VARIANTS)}.")
    return tuple(dict.fromkeys(expanded))


@dataclass(frozen=True)
class Recipe:
    """What to read for one example and how to add it up."""

    subtract: tuple[str, ...]
    """Columns of the layers that are taken from the mixture."""
    references: tuple[tuple[str, ...], ...]
    """Columns that add up to each of the two speakers' references."""


def create_recipe(task: Task, variant: str, *, indoor: bool, reverberant: bool) -> Recipe:
    """The layers of a variant under a task, exactly those that must be read."""
    kept = variant.split("_")[0]
    subtract = [] if "S" in kept else ["sceneFile"]
    if "E" not in kept:
        subtract += ["eventFile", "reverbForEvent"] if indoor else ["eventFile"]
    if indoor and "R" not in kept:
        subtract += ["reverbForSpeaker1", "reverbForSpeaker2"]
    if task is Task.ES:
        subtract.append("speaker2File")
        if indoor and "R" in kept:
            subtract.append("reverbForSpeaker2")
    with_reverb = reverberant and indoor and "R" in kept
    speakers = (1,) if task is Task.ES else (1, 2)
    references = tuple(
        (f"speaker{n}File", f"reverbForSpeaker{n}") if with_reverb else (f"speaker{n}File",) for n in speakers
    )
    return Recipe(tuple(subtract), references)


@register_corpus("polsess", PolSESSConfig)
class PolSESS(Corpus):
    """One split of a PolSESS corpus under one task."""

    config: PolSESSConfig

    def __init__(self, config: PolSESSConfig, split: Split, task: Task, seed: int = 0) -> None:
        super().__init__(config, split, task, seed)
        self.folder = config.root / split
        self._folder = str(self.folder)
        self.table = find_table(config.root, split, config.table)
        self.rows = self._select(read_table(self.table))
        self._indoor_rows = [row for row in self.rows if row.indoor]
        self._outdoor_rows = [row for row in self.rows if not row.indoor]
        self._rows_by_variants: dict[tuple[str, ...], list[PolSESSRow]] = {}
        for stage in config.curriculum if split is Split.TRAIN else ():
            self._rows_with(stage.variants)  # a stage without rows is found out now, not in its epoch

    @property
    def num_sources(self) -> int:
        """C: 1 for ES and EB, 2 for SB."""
        return self.task.num_sources(2)

    def __len__(self) -> int:
        """Rows in use."""
        return len(self.rows)

    def inventory(self) -> Iterator[tuple[str, Path | None]]:
        """The rows in use: the names of all layers, the size of the mixture alone."""
        for row in self.rows:
            text = f"{sorted(row.files.items())} {sorted(row.metadata.items())}"
            yield text, Path(self._path(row, "mixFile"))

    def example(self, epoch: int, index: int) -> Example:
        """Draw a variant, and in training a segment; see the base class."""
        random = self.random(epoch, index)
        variants = self._variants(epoch)
        rows = self._rows_with(variants)
        row = rows[index % len(rows)]  # a stage of the curriculum with fewer rows draws some again
        allowed = [name for name in variants if name in _variants_of(row)]
        variant = allowed[random.integers(len(allowed))]
        start, length = self._segment(row, random.random())
        recipe = create_recipe(
            self.task, variant, indoor=row.indoor, reverberant=self.config.target == "reverberant"
        )
        metadata = {**row.metadata, "variant": variant}
        if self.split is Split.TRAIN and self.config.recomposes:
            mixture, references = self._compose(random, row, recipe, (start, length), metadata)
        else:
            mixture, references = self._read(row, recipe, start, length)
        return Example(
            mixture=mixture,
            references=references.sum(0, keepdim=True) if self.task is Task.EB else references,
            identifier=row.files["mixFile"].removesuffix(".wav"),
            metadata=metadata,
        )

    def _rows_with(self, variants: tuple[str, ...]) -> list[PolSESSRow]:
        """Rows that can be one of these variants."""
        if variants not in self._rows_by_variants:
            rows = [row for row in self.rows if set(variants) & set(_variants_of(row))]
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
        kept = [row for row in rows if allowed & set(_variants_of(row)) and self._passes(row)]
        if not kept:
            raise ValueError(f"{self.table}: none of its {len(rows)} rows passes the filters and variants.")
        if self.config.max_examples is not None and self.config.max_examples < len(kept):
            generator = torch.Generator().manual_seed(0)
            chosen = torch.randperm(len(kept), generator=generator)[: self.config.max_examples]
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
        return config.same_speaker_pairs or row.metadata["speaker1"] != row.metadata["speaker2"]

    def _segment(self, row: PolSESSRow, position: float) -> tuple[int, int | None]:
        """The first sample and the length to read, at the files' rate; None reads everything."""
        if self.split is not Split.TRAIN or self.config.segment_seconds is None:
            return 0, None
        info = read_audio_info(self._path(row, "mixFile"))
        length = min(round(self.config.segment_seconds * info.sample_rate), info.num_samples)
        return int(position * (info.num_samples - length + 1)), length

    def _read(self, row: PolSESSRow, recipe: Recipe, start: int, length: int | None) -> tuple[Tensor, Tensor]:
        """The mixture ``[T]`` and the speakers' references ``[1 or 2, T]``."""
        mixture, rate = self._layer(row, "mixFile", start, length)
        layers: dict[str, Tensor] = {}
        for column in {*recipe.subtract, *(name for names in recipe.references for name in names)}:
            layers[column], layer_rate = self._layer(row, column, start, length)
            if layer_rate != rate or layers[column].shape != mixture.shape:
                raise AudioError(
                    self._path(row, column),
                    f"has {len(layers[column])} samples at {layer_rate} Hz; the mixture of row {row.number} "
                    f"of {self.table.name} has {len(mixture)} at {rate} Hz.",
                )
        for column in recipe.subtract:
            mixture = mixture - layers[column]
        references = torch.stack(
            [sum((layers[c] for c in names[1:]), layers[names[0]]) for names in recipe.references]
        )
        if rate == self.config.sample_rate:
            return mixture, references
        everything = resample(torch.cat([mixture[None], references]), rate, self.config.sample_rate)
        return everything[0], everything[1:]

    def _compose(
        self,
        random: np.random.Generator,
        row: PolSESSRow,
        recipe: Recipe,
        place: tuple[int, int | None],
        metadata: dict[str, str | float],
    ) -> tuple[Tensor, Tensor]:
        """As ``_read``, with levels or layers of this draw; what changed is noted in the metadata."""
        present = [column for column in row.files if column not in ("mixFile", *recipe.subtract)]
        cast = self._cast(random, row, metadata) if self.config.remix is not None else {}
        first, rate = self._layer(row, "speaker1File", *place)
        layers = {"speaker1File": first}
        positions = {role: random.random() for role in cast}
        for column in (name for name in present if name != "speaker1File"):
            other, name = cast.get(_ROLES[column], {}).get(column, (row, column))
            there = place if other is row else self._segment(other, positions[_ROLES[column]])
            layers[column], layer_rate = self._layer(other, name, *there)
            if layer_rate != rate or layers[column].shape != first.shape:
                raise AudioError(
                    self._path(other, name),
                    f"has {len(layers[column])} samples at {layer_rate} Hz; row {row.number} of "
                    f"{self.table.name} has {len(first)} at {rate} Hz.",
                )
        gains = self._gains(random, layers, metadata)
        layers = {column: samples * gains.get(_ROLES[column], 1.0) for column, samples in layers.items()}
        signals = [torch.stack([layers[column] for column in present]).sum(0)]
        signals += [torch.stack([layers[c] for c in names]).sum(0) for names in recipe.references]
        everything = resample(torch.stack(signals), rate, self.config.sample_rate)
        return everything[0], everything[1:]

    def _cast(
        self, random: np.random.Generator, row: PolSESSRow, metadata: dict[str, str | float]
    ) -> dict[str, dict[str, tuple[PolSESSRow, str]]]:
        """Where the layers of each role but speaker 1 come from: row and column by column."""
        rows = self._rows_by_location(row.indoor)
        partner, n = row, 2
        for _ in range(_CASTING_DRAWS):
            other, slot = rows[random.integers(len(rows))], int(random.integers(1, 3))
            if other.metadata[f"speaker{slot}"] != row.metadata["speaker1"]:
                partner, n = other, slot
                break
        scene, event = (rows[random.integers(len(rows))] for _ in range(2))
        metadata |= {"speaker2": partner.metadata[f"speaker{n}"], "scene": scene.metadata["scene"]}
        metadata["event"] = event.metadata["event"]
        return {
            "speaker2": {
                "speaker2File": (partner, f"speaker{n}File"),
                "reverbForSpeaker2": (partner, f"reverbForSpeaker{n}"),
            },
            "scene": {"sceneFile": (scene, "sceneFile")},
            "event": {"eventFile": (event, "eventFile"), "reverbForEvent": (event, "reverbForEvent")},
        }

    def _rows_by_location(self, indoor: bool) -> list[PolSESSRow]:
        return self._indoor_rows if indoor else self._outdoor_rows

    def _gains(
        self, random: np.random.Generator, layers: dict[str, Tensor], metadata: dict[str, str | float]
    ) -> dict[str, float]:
        """Factors by role."""
        background_db = random.uniform(*self.config.background_gain_db)
        metadata["background_gain_db"] = round(background_db, 2)
        gains = dict.fromkeys(("scene", "event"), 10 ** (background_db / 20))
        if self.config.remix is None or "speaker2File" not in layers:
            return gains
        ssr = random.uniform(*self.config.remix.ssr_range_db)
        first, second = layers["speaker1File"].norm().item(), layers["speaker2File"].norm().item()
        metadata["ssr_db"] = round(ssr, 2)
        return gains | {"speaker2": first / second * 10 ** (-ssr / 20) if first and second else 1.0}

    def _layer(self, row: PolSESSRow, column: str, start: int, length: int | None) -> tuple[Tensor, int]:
        path = self._path(row, column)
        samples, rate = read_audio(path, start, length)
        if len(samples) != 1:
            raise AudioError(path, f"has {len(samples)} channels; layers of PolSESS have one.")
        return samples[0], rate

    def _path(self, row: PolSESSRow, column: str) -> str:
        path = os.path.join(self._folder, FOLDERS[column], row.files[column])  # noqa: PTH118 - pathlib is slow here
        if not os.path.isfile(path):  # noqa: PTH113
            raise FileNotFoundError(f"{self.table}, row {row.number}, column {column}: no file at {path}.")
        return path


FOLDERS = {
    "mixFile": "mix",
    "speaker1File": "clean",
    "speaker2File": "clean",
    "sceneFile": "scene",
    "eventFile": "event",
    "reverbForSpeaker1": "sp1_reverb",
    "reverbForSpeaker2": "sp2_reverb",
    "reverbForEvent": "ev_reverb",
}
"""The folder of each column's files."""

_ROLES = {
    "speaker1File": "speaker1",
    "reverbForSpeaker1": "speaker1",
    "speaker2File": "speaker2",
    "reverbForSpeaker2": "speaker2",
    "sceneFile": "scene",
    "eventFile": "event",
    "reverbForEvent": "event",
}
_CASTING_DRAWS = 100
"""Until somebody else than speaker 1 is found; else the row's own speaker 2 stays."""


def _variants_of(row: PolSESSRow) -> tuple[str, ...]:
    return INDOOR_VARIANTS if row.indoor else OUTDOOR_VARIANTS
