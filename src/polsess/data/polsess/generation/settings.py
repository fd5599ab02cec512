"""Settings of a generated corpus, and the recordings that the conversations of each split are drawn from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from polsess.data.base import Split
from polsess.data.polsess.generation.conversation import ConversationConfig
from polsess.data.polsess.generation.scenes import SceneTable, load_scenes, normalize_label
from polsess.data.polsess.layers import MAX_SPEAKERS
from polsess.data.rooms import Rooms, list_rooms
from polsess.data.sources import (
    SourceFile,
    drop_repeated,
    keep_long,
    keep_transcribed,
    list_sources,
    split_sources,
)
from polsess.schema import Schema
from polsess.text_tables import counted

_SHORTEST_SPEECH, _SHORTEST_EVENT = 1.0, 0.5
"""Seconds of the shortest recordings of speech and events in conversations, which they need not fill."""


class GenerationConfig(Schema):
    """Length, levels and rules; the defaults are those of the original generator without its traps."""

    name: str = Field(pattern=r"^[\w .-]{1,100}$")
    """Name of the corpus, part of the CSV's name."""
    seed: int = Field(default=0, ge=0)
    """The same seed, sources and settings give the same bytes."""
    sample_rate: int = Field(default=8000, ge=1000, le=192_000)
    """Rate in Hz."""
    seconds: float = Field(default=4.0, ge=0.5, le=600.0)
    """Length of every mixture."""
    speakers: int = Field(default=2, ge=1, le=MAX_SPEAKERS)
    """Number of speakers per mixture; PolSESS has two, one and three have the same layers and columns."""
    ssr_range_db: tuple[int, int] = (-5, 5)
    """Level of speaker 1 over each other speaker, in whole dB with both ends."""
    scene_range_db: tuple[float, float] = (-14.0, 0.0)
    """Level of the scene over all speakers."""
    overlap: float = Field(default=1.0, ge=0.0, le=1.0)
    """Share of time in which two speakers overlap: 1 is all the time, 0 is one after the other."""
    conversations: ConversationConfig | None = None
    """How people take turns; None for mixtures in which all talk, as in PolSESS."""
    compat: Literal["none", "matlab"] = "none"
    """``matlab`` keeps the rules of the original generator: pairs of one speaker, nearly silent crops, events
    chosen by a part of their label, sources of one split in another, layers that a limiter made differ from
    what was mixed."""

    @model_validator(mode="after")
    def _check_ranges(self) -> GenerationConfig:
        for name in ("ssr_range_db", "scene_range_db"):
            low, high = getattr(self, name)
            if not -60 <= low <= high <= 60:
                raise ValueError(f"{name}: expected two rising numbers from -60 to 60, got {low} and {high}.")
        if self.speakers == 1 and self.overlap != 1.0:
            raise ValueError("overlap: one speaker cannot overlap with anybody; leave it out.")
        if self.conversations is not None and (self.matlab or self.overlap != 1.0):
            raise ValueError(
                "conversations: have an overlap_range of their own, and the original generator makes none; "
                "leave out overlap and compat."
            )
        if self.conversations is not None and len(self.conversations.voice_shares) > self.speakers:
            raise ValueError(
                f"conversations.voice_shares: expected at most {self.speakers} shares, one per speaker."
            )
        if self.speakers != 2 and self.matlab:
            raise ValueError(f"compat: the original generator mixes two speakers, not {self.speakers}.")
        return self

    @property
    def num_samples(self) -> int:
        """T."""
        return round(self.seconds * self.sample_rate)

    @property
    def matlab(self) -> bool:
        """Whether the original rules hold."""
        return self.compat == "matlab"


@dataclass(frozen=True)
class Ingredients:
    """Recordings and settings of a split."""

    config: GenerationConfig
    speech: Sequence[SourceFile]
    scenes: Sequence[SourceFile]
    events: Sequence[SourceFile]
    table: SceneTable
    rooms: Rooms | None
    """Measured rooms; None for the plate."""

    def events_in(self, scene: str) -> dict[str, list[SourceFile]]:
        """Recordings of the events that may happen in a scene, by label."""
        labels = sorted({label.strip() for one in self.events for label in one.label.split(",")})
        allowed = [label for label in labels if label and self.table.allows(scene, label)]
        return {label: found for label in allowed if (found := self._events_with(label))}

    def _events_with(self, label: str) -> list[SourceFile]:
        if self.config.matlab:  # any part of the text, "rain" in "Train" too
            return [one for one in self.events if label in one.label]
        wanted = normalize_label(label)
        return [one for one in self.events if wanted in map(normalize_label, one.label.split(","))]


def collect_ingredients(
    config: GenerationConfig,
    splits: Sequence[Split],
    *,
    speech: Path,
    scenes: Path,
    events: Path,
    table: Path | None = None,
    rirs: Path | None = None,
    on_repeated: Callable[[str], None] = lambda _: None,
) -> dict[Split, Ingredients]:
    """Collect the recordings of each split; splits share none unless the original rules apply.

    Args:
        config: The corpus's settings.
        splits: Wanted splits.
        speech: Folder or CSV of recordings of one speaker each.
        scenes: Folder or CSV of backgrounds.
        events: Folder or CSV of short sounds.
        table: Table of scenes; None for the one of the package.
        rirs: Impulse responses instead of the plate; where they have splits, each split uses its own.
        on_repeated: Called with a line for every file that is left out because another sounds the same.

    Raises:
        FileNotFoundError: If a place is missing.
        ValueError: If there is too little in it, or a source is given for two splits.
        ConfigError: If the table of scenes cannot be read.
    """
    shortest = dict.fromkeys(("speech", "scenes", "events"), config.seconds)
    if config.conversations is not None:
        shortest |= {"speech": _SHORTEST_SPEECH, "events": _SHORTEST_EVENT}
    places = {"speech": speech, "scenes": scenes, "events": events}
    found = {name: list_sources(place, speech=name == "speech") for name, place in places.items()}
    if not config.matlab:
        found = {name: drop_repeated(sources, on_repeated) for name, sources in found.items()}
    scene_table = load_scenes(table)
    collected = {}
    for split in splits:
        parts = {
            name: split_sources(sources, split, by_label=name == "speech", strict=not config.matlab)
            for name, sources in found.items()
        }
        parts = {
            name: keep_long(part, shortest[name], f"{places[name]}, split '{split}'")
            for name, part in parts.items()
        }
        if config.conversations is not None and config.conversations.words:
            parts["speech"] = _with_words(parts["speech"], config, f"{speech}, split '{split}'")
        voices = {one.label for one in parts["speech"]}
        if len(voices) < config.speakers and not config.matlab:
            raise ValueError(
                f"{speech}: split '{split}' has {counted(len(voices), 'speaker')}; "
                f"a mixture needs {config.speakers}."
            )
        rooms = list_rooms(rirs, split, deal=False) if rirs else None
        collected[split] = Ingredients(config, **parts, table=scene_table, rooms=rooms)
    return collected


def _with_words(speech: Sequence[SourceFile], config: GenerationConfig, where: str) -> list[SourceFile]:
    """Recordings whose words are known, short enough that several fit into a mixture."""
    longest = config.seconds / 2
    kept = [one for one in keep_transcribed(speech, where) if one.num_samples <= longest * one.sample_rate]
    if not kept:
        raise ValueError(
            f"{where}: no recording with known words is at most half as long as a mixture ({longest:g} s)."
        )
    return kept
