"""New conversations of a PolSESS corpus's own layers: other speakers, other backgrounds, other levels.

Shapes: C references, T samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from polsess.audio import AudioError, Samples
from polsess.data.mixing import Range, Remix, rms
from polsess.data.polsess.layer_files import STEP, Form, LayerFiles
from polsess.data.polsess.layers import ROLES, Recipe
from polsess.data.polsess.table import PolSESSRow

Metadata = dict[str, str | float]
Layer = tuple[PolSESSRow, str]
"""A row and a column of it."""

_CASTING_DRAWS = 100
"""Draws until another speaker is found; after that the row's own speaker stays."""


@dataclass(frozen=True)
class Recomposer:
    """Sums layers instead of subtracting some from the mixture."""

    files: LayerFiles
    rows: Sequence[PolSESSRow]
    """Rows that layers are taken from."""
    remix: Remix | None
    """Settings of new conversations; None keeps each row's own layers."""
    background_gain_db: Range

    def compose(
        self, random: np.random.Generator, row: PolSESSRow, recipe: Recipe, form: Form, part: tuple[int, int]
    ) -> tuple[Samples, Metadata]:
        """Compose a mixture and its references, ``[1 + C, T]``, with the changed metadata.

        Args:
            random: Source of random numbers.
            row: Row whose first speaker and location stay.
            recipe: Layers of the mixture and the references.
            form: Length and rate of the row's mixture.
            part: First sample and length of the segment.
        """
        present = [column for column in row.files if column not in ("mixFile", *recipe.subtract)]
        metadata: Metadata = {}
        cast = self._cast(random, row, metadata) if self.remix is not None else {}
        places = {role: random.random() for role in sorted({ROLES[column] for column in cast})}
        layers: dict[str, Samples] = {}
        for column in present:
            other, name = cast.get(column, (row, column))
            place = None if other is row else places[ROLES[column]]
            layers[column] = self._read(other, name, form, part, place)
        gains = self._gains(random, layers, metadata)
        for column, samples in layers.items():
            samples *= STEP * np.float32(gains.get(ROLES[column], 1.0))
        sums = [present, *recipe.references]
        return np.stack([np.sum([layers[name] for name in names], axis=0) for names in sums]), metadata

    def _read(
        self, row: PolSESSRow, column: str, form: Form, part: tuple[int, int], place: float | None
    ) -> Samples:
        """Read a layer ``[T]``: the same segment, or one at a place of 0 to 1 in another row."""
        start, count = part
        if place is not None:
            own = self.files.form(row)
            if own[0] < count or own[1] != form[1]:
                path = self.files.path(row, "mixFile")
                raise AudioError(
                    path,
                    f"has {own[0]} samples at {own[1]} Hz; row {row.number} of {self.files.table.name} is "
                    f"remixed with others of {count} at {form[1]} Hz.",
                )
            form, start = own, int(place * (own[0] - count + 1))
        return self.files.read(row, column, form, start, np.empty(count, np.int16)).astype(np.float32)

    def _cast(self, random: np.random.Generator, row: PolSESSRow, metadata: Metadata) -> dict[str, Layer]:
        """Draw the rows that layers come from, by column, for all but speaker 1."""
        rows = [other for other in self.rows if other.indoor == row.indoor]
        cast: dict[str, Layer] = {}
        heard = [row.metadata["speaker1"]]
        for n in range(2, row.num_speakers + 1):
            other, slot = self._find_speaker(random, rows, heard, (row, n))
            heard.append(other.metadata[f"speaker{slot}"])
            metadata[f"speaker{n}"] = heard[-1]
            cast[f"speaker{n}File"] = (other, f"speaker{slot}File")
            cast[f"reverbForSpeaker{n}"] = (other, f"reverbForSpeaker{slot}")
        scene, event = (rows[int(random.integers(len(rows)))] for _ in range(2))
        metadata |= {"scene": scene.metadata["scene"], "event": event.metadata["event"]}
        cast |= {name: (event, name) for name in ("eventFile", "reverbForEvent")}
        return cast | {"sceneFile": (scene, "sceneFile")}

    def _find_speaker(
        self,
        random: np.random.Generator,
        rows: Sequence[PolSESSRow],
        heard: Sequence[str | float],
        own: tuple[PolSESSRow, int],
    ) -> tuple[PolSESSRow, int]:
        for _ in range(_CASTING_DRAWS):
            other = rows[int(random.integers(len(rows)))]
            slot = int(random.integers(1, other.num_speakers + 1))
            if other.metadata[f"speaker{slot}"] not in heard:
                return other, slot
        return own

    def _gains(
        self, random: np.random.Generator, layers: dict[str, Samples], metadata: Metadata
    ) -> dict[str, float]:
        """Gains by source, drawn in dB."""
        background_db = random.uniform(*self.background_gain_db)
        metadata["background_gain_db"] = round(background_db, 2)
        gains = dict.fromkeys(("scene", "event"), 10 ** (background_db / 20))
        others = [column for column in layers if column[:7] == "speaker" and column != "speaker1File"]
        first = rms(layers["speaker1File"]).item()
        for column in others if self.remix is not None else ():
            assert self.remix is not None
            ssr = random.uniform(*self.remix.ssr_range_db)
            level = rms(layers[column]).item()
            metadata.setdefault("ssr_db", round(ssr, 2))
            gains[ROLES[column]] = first / level * 10 ** (-ssr / 20) if first and level else 1.0
        return gains
