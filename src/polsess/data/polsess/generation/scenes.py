"""The table of scenes: location, rooms and possible events by class."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from polsess.schema import Schema, parse, suggest
from polsess.yaml_files import read_yaml

Range = tuple[float, float]


class ReverbRanges(Schema):
    """Ranges of the parameters of a room."""

    pre_delay: Range
    """Delay of the first echo in seconds."""
    diffusion: Range
    decay: Range
    """Decay of the tail; a larger one is a shorter tail."""
    damping: Range = (0.1, 0.9)
    high_cut_hz: Range = (15_000.0, 20_000.0)

    @model_validator(mode="after")
    def _check(self) -> ReverbRanges:
        for name, low, high in (
            ("pre_delay", 0.0, 1.0),
            ("diffusion", 0.0, 0.95),
            ("decay", 0.1, 1.0),
            ("damping", 0.0, 0.99),
            ("high_cut_hz", 20.0, 1e6),
        ):
            first, second = getattr(self, name)
            if not low <= first <= second <= high:
                raise ValueError(
                    f"{name}: expected two rising numbers from {low:g} to {high:g}, got {first}, {second}."
                )
        return self


class Scene(Schema):
    """One class of scenes."""

    location: Literal["indoor", "outdoor"]
    reverb: ReverbRanges | None = None
    """Ranges of the room; only indoors."""
    excludes: frozenset[str] = Field(default=frozenset())
    """Kinds of events that do not happen in the scene."""

    @model_validator(mode="after")
    def _check(self) -> Scene:
        if (self.location == "indoor") != (self.reverb is not None):
            raise ValueError("reverb: indoor scenes need it, outdoor scenes have none.")
        return self


class SceneTable(Schema):
    """All classes of scenes and the kinds of events."""

    scenes: dict[str, Scene]
    events: dict[str, frozenset[str]] = Field(default_factory=dict)
    """Labels of events by kind; a label may be in several kinds."""

    @model_validator(mode="after")
    def _check(self) -> SceneTable:
        for name, scene in self.scenes.items():
            if unknown := sorted(scene.excludes - set(self.events)):
                raise ValueError(f"scenes.{name}.excludes: '{unknown[0]}' is not among events.")
        return self

    def find(self, name: str) -> Scene:
        """A class of scenes.

        Raises:
            ValueError: If it is unknown.
        """
        if name not in self.scenes:
            known = suggest(name, list(self.scenes), "Known")
            raise ValueError(
                f"scene class '{name}': not in the table of scenes.{known} Or give a table with it."
            )
        return self.scenes[name]

    def allows(self, scene: str, event: str) -> bool:
        """Whether an event with this label may happen in a scene."""
        label = normalize_label(event)
        kinds = self.find(scene).excludes
        return not any(label in {normalize_label(each) for each in self.events[kind]} for kind in kinds)


def normalize_label(label: str) -> str:
    """A label without regard to case, blanks and underscores."""
    return " ".join(label.replace("_", " ").split()).lower()


def load_scenes(path: Path | None = None) -> SceneTable:
    """Read a table of scenes; None reads the one of this package.

    Raises:
        ConfigError: If it is not such a table.
    """
    path = path or Path(__file__).with_name("scenes.yaml")
    return parse(SceneTable, _resolve_reverbs(read_yaml(path)), path.name)


def _resolve_reverbs(data: Any) -> Any:
    """Replace names of reverbs by their ranges; the schema reports anything that is not such a table."""
    if not isinstance(data, Mapping) or not isinstance(data.get("scenes"), Mapping):
        return data
    named = data.get("reverbs") or {}
    scenes = {
        name: {**scene, "reverb": named.get(scene["reverb"], scene["reverb"])}
        if isinstance(scene, Mapping) and isinstance(scene.get("reverb"), str)
        else scene
        for name, scene in data["scenes"].items()
    }
    return {key: value for key, value in data.items() if key != "reverbs"} | {"scenes": scenes}
