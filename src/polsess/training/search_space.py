"""The space of a search: a base experiment and ranges of some of its keys, read from a YAML file."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from polsess.config import Config, parse_config, read_settings
from polsess.schema import ConfigError, Schema, parse
from polsess.yaml_files import read_yaml

Value = str | int | float | bool | None


class Range(Schema):
    """The values that one key may take: either ``choices``, or numbers from ``low`` to ``high``."""

    choices: tuple[Value, ...] | None = Field(default=None, min_length=1)
    """Tried without an order among them."""
    low: int | float | None = None
    high: int | float | None = None
    """Both ends included; whole numbers on both ends make a range of whole numbers."""
    log: bool = False
    """Whether ratios count instead of differences."""
    step: int | float | None = Field(default=None, gt=0)
    """The distance of neighbouring values, counted from ``low``."""

    @model_validator(mode="after")
    def _check(self) -> Range:
        numbers = (self.low, self.high)
        if self.choices is not None:
            if numbers != (None, None) or self.log or self.step is not None:
                raise ValueError("choices stand alone; leave out low, high, log and step.")
            return self
        if self.low is None or self.high is None:
            raise ValueError("expected choices: [...], or low and high.")
        if not self.low < self.high:
            raise ValueError(f"low must be less than high, got {self.low} and {self.high}.")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("log needs low > 0 and no step.")
        if self.is_whole and isinstance(self.step, float):
            raise ValueError(f"a range of whole numbers needs a whole step, got {self.step}.")
        return self

    @property
    def is_whole(self) -> bool:
        """Whether its numbers are integers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def examples(self) -> tuple[Value, ...]:
        """Its choices or its ends."""
        return self.choices if self.choices is not None else (self.low, self.high)

    def suggest(self, trial: Any, key: str) -> Value:
        """The value that an Optuna trial takes for a key."""
        if self.choices is not None:
            return trial.suggest_categorical(key, self.choices)
        if self.is_whole:
            return trial.suggest_int(key, self.low, self.high, step=self.step or 1, log=self.log)
        return trial.suggest_float(key, self.low, self.high, step=self.step, log=self.log)


class PruningConfig(Schema):
    """When a trial is given up: its score is below the median of earlier trials at the same epoch."""

    startup_trials: int = Field(default=5, ge=1)
    """Trials that always run to their end."""
    warmup_epochs: int = Field(default=3, ge=0)
    """Epochs of every trial that are not judged."""


class SearchSpace(Schema):
    """A search."""

    config: Path
    """The YAML of the experiment, relative to the folder of this file."""
    trials: int = Field(default=50, ge=1)
    """In all, those before a restart included."""
    seed: int = Field(default=0, ge=0)
    """Of the choice of values; every trial trains with the experiment's own seed."""
    pruning: PruningConfig | None = PruningConfig()
    """null lets every trial run to its end."""
    search: dict[str, Range] = Field(min_length=1)
    """Ranges by dotted key of the experiment."""


def load_space(path: Path, overrides: Sequence[str] = ()) -> tuple[SearchSpace, dict[str, Any]]:
    """Read a search and the plain settings of its experiment, and check that every range fits into it.

    Args:
        path: The YAML file.
        overrides: ``key=value`` changes to the experiment.

    Raises:
        ConfigError: One line that names the key.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such file.")
    content = read_yaml(path)
    ranges = content.get("search") if isinstance(content, Mapping) else None
    for key, values in (ranges if isinstance(ranges, Mapping) else {}).items():
        parse(Range, values, f"{path}: search.{key}")  # by itself: its errors know its keys
    space = parse(SearchSpace, content, str(path))
    base = read_settings(path.parent / space.config, overrides)
    if parse_config(base).training.num_processes > 1:
        raise ConfigError(
            "training.devices, training.num_nodes: a search trains in one process; set both to 1."
        )
    for key, values in space.search.items():
        for value in values.examples():
            try:
                apply(base, {key: value})
            except ConfigError as error:
                raise ConfigError(f"search.{key}: {value!r} does not fit the experiment. {error}") from None
    return space, base


def apply(base: Mapping[str, Any], values: Mapping[str, Value]) -> tuple[Config, dict[str, Any]]:
    """The experiment with some values, and its plain settings.

    Args:
        base: Plain settings.
        values: By dotted key.

    Raises:
        ConfigError: If a key is unknown or a value does not fit.
    """
    settings = copy.deepcopy(dict(base))
    for key, value in values.items():
        *sections, name = key.split(".")
        place = settings
        for section in sections:
            if place.get(section) is None:
                place[section] = {}
            place = place[section]
            if not isinstance(place, dict):
                raise ConfigError(f"{key}: '{section}' is a value, not a section.")
        place[name] = value
    return parse_config(settings), settings
