"""The recordings that conversations of each split are drawn from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from polsess.data.base import Split
from polsess.data.polsess.generation.scenes import SceneTable, load_scenes, normalize_label
from polsess.data.polsess.generation.settings import GenerationConfig
from polsess.data.rooms import Rooms, list_rooms
from polsess.data.sources import SourceFile, drop_repeated, list_sources, split_sources


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
    found = {
        name: list_sources(place, speech=name == "speech", min_seconds=config.seconds)
        for name, place in (("speech", speech), ("scenes", scenes), ("events", events))
    }
    if not config.matlab:
        found = {name: drop_repeated(sources, on_repeated) for name, sources in found.items()}
    scene_table = load_scenes(table)
    collected = {}
    for split in splits:
        parts = {
            name: split_sources(sources, split, by_label=name == "speech", strict=not config.matlab)
            for name, sources in found.items()
        }
        voices = {one.label for one in parts["speech"]}
        if len(voices) < config.speakers and not config.matlab:
            raise ValueError(
                f"{speech}: split '{split}' has {len(voices)} speaker(s); a mixture needs {config.speakers}."
            )
        rooms = list_rooms(rirs, split, deal=False) if rirs else None
        collected[split] = Ingredients(config, **parts, table=scene_table, rooms=rooms)
    return collected
