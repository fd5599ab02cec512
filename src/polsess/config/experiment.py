"""The configuration of an experiment, composed of its parts' own: YAML plus ``key=value`` overrides."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, SerializeAsAny, field_validator, model_validator

from polsess.checkpoints import read_checkpoint
from polsess.config.original import is_original, upgrade
from polsess.config.training import TrainingConfig
from polsess.data import DataConfig
from polsess.dotted_keys import flatten, look_up, nest
from polsess.losses import LossConfig
from polsess.models import Network, NetworkConfig, get_model_class, list_models, parse_model_config
from polsess.schema import ConfigError, Schema, parse
from polsess.tasks import SEPARATION_TASKS, Task
from polsess.text_tables import counted
from polsess.yaml_files import parse_yaml, read_yaml

Layer = tuple[str, Mapping[str, Any]]
"""Origin of some settings, and the plain settings."""


class Config(Schema):
    """One experiment."""

    task: Task = Task.SB
    """ES enhances one speaker, EB enhances both as one signal, SB separates both; OSD detects speech and
    overlapped speech, SV verifies speakers."""
    seed: int = Field(default=0, ge=0)
    """Decides the initial weights, the order of the data and every draw."""
    data: DataConfig
    model: SerializeAsAny[NetworkConfig]
    training: TrainingConfig = TrainingConfig()

    @field_validator("model", mode="before")
    @classmethod
    def _parse_model(cls, value: Any) -> NetworkConfig:
        return parse_model_config(value, kind=Network)

    @model_validator(mode="after")
    def _check_agreement(self) -> Config:
        network = get_model_class(self.model.model_type, Network)
        if self.task not in network.tasks:
            raise ValueError(
                f"task {self.task} is not for {self.model.model_type}, a {network.kind}; set task to "
                f"{' or '.join(sorted(network.tasks))}, or choose another model."
            )
        if self.training.precision == "bfloat16" and network.amp_dtype is None:
            raise ValueError(f"training.precision: {self.model.model_type} trains in float32 only.")
        if self.task not in SEPARATION_TASKS and self.training.loss != LossConfig():
            raise ValueError(f"training.loss compares signals, task {self.task} has none; leave it out.")
        longest = self.training.verification.crop_seconds[1] if self.training.verification else 0.0
        if self.task is Task.SV and longest > (self.data.corpus.segment_seconds or longest):
            raise ValueError(
                f"training.verification.crop_seconds: pieces have {self.data.corpus.segment_seconds:g} s "
                f"(data.corpus.segment_seconds), no batch of {longest:g} s can be cut from them."
            )
        if self.task is not Task.SV and self.training.verification is not None:
            raise ValueError(f"training.verification is for task SV, not {self.task}; leave it out.")
        if self.task in SEPARATION_TASKS and self.training.hearing is not None:
            raise ValueError(f"training.hearing is for tasks OSD and SV, not {self.task}; leave it out.")
        if self.model.sample_rate != self.data.corpus.sample_rate:
            raise ValueError(
                f"model.sample_rate is {self.model.sample_rate} Hz, but data.corpus.sample_rate is "
                f"{self.data.corpus.sample_rate} Hz; set both to the same."
            )
        stage, epoch = self.data.corpus.schedule_from_epoch, self.training.optimizer.schedule_from_epoch
        if stage is not None and stage != epoch:
            raise ValueError(
                f"training.optimizer.schedule_from_epoch is {epoch}, but the curriculum starts the schedule "
                f"in epoch {stage}; leave schedule_from_epoch out to follow the curriculum."
            )
        return self


def find_config(path: Path, expected: str = "file") -> Path:
    """The file of an experiment: the path itself, or the recipe of that name.

    Args:
        path: A path, or a name.
        expected: What the path may be of, for the message.

    Raises:
        ConfigError: If there is neither; names the nearest recipe.
    """
    if path.is_file():
        return path
    package = Path(__file__).parents[1]
    folders = (package / "recipes", package.parents[1] / "configs")  # of a wheel, of a checkout
    recipes = {file.stem: file for folder in folders for file in sorted(folder.glob("*_*.yaml"))}
    if str(path) in recipes:
        return recipes[str(path)]
    near = difflib.get_close_matches(path.stem, recipes, n=1)
    hint = f" Did you mean the recipe '{near[0]}'?" if near else ""
    raise ConfigError(f"{path}: no such {expected}.{hint}")


def load_config(
    path: Path | None, overrides: Sequence[str] = (), *, say: Callable[[str], None] = warnings.warn
) -> Config:
    """Read an experiment, also one of the original polsess.

    Args:
        path: A YAML file, or the name of a recipe; None starts from nothing.
        overrides: ``key=value`` pairs, e.g. ``training.max_epochs=3``; the value is read as YAML.
        say: Receives remarks on what was changed in a file of the original polsess.

    Raises:
        ConfigError: One line per mistake, each naming the key; or if there is no such file.
    """
    return parse_config(_merged(_with_initial_model(_layers(path, overrides, say))))


def read_settings(
    path: Path | None, overrides: Sequence[str] = (), defaults: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Plain settings from a file and overrides, before any schema.

    Args:
        path: A YAML file; None for the rest alone.
        overrides: ``key=value`` pairs; the value is read as YAML.
        defaults: Settings below the file.

    Raises:
        ConfigError: If there is no such file, it has no keys at its top, or an override is none.
    """
    return _merge(dict(defaults or {}), _merged(_layers(path, overrides)))


def explain_config(
    path: Path | None, overrides: Sequence[str] = (), *, say: Callable[[str], None] = warnings.warn
) -> list[tuple[str, Any, str]]:
    """Every value of an experiment and where it came from.

    Args:
        path: As in ``load_config``.
        overrides: As in ``load_config``.
        say: As in ``load_config``.

    Returns:
        (dotted key, value, origin); the origin is the file, ``command line`` or ``default``.

    Raises:
        ConfigError: As in ``load_config``.
    """
    config = load_config(path, overrides, say=say)
    layers = _with_initial_model(_layers(path, overrides))
    given = [(origin, dict(flatten(layer))) for origin, layer in layers]
    rows = []
    for key, value in flatten(config.model_dump(mode="json")):
        origins = [origin for origin, layer in given if key in layer]
        rows.append((key, value, origins[-1] if origins else "default"))
    return rows


def _with_initial_model(layers: list[Layer]) -> list[Layer]:
    """With the model of the weights of ``training.init`` below all others, if no model is described."""
    given = _merged(layers)
    training = given.get("training")
    source = training.get("init") if isinstance(training, Mapping) else None
    if not isinstance(source, str) or "model_type" in (given.get("model") or {}):
        return layers
    checkpoint = read_checkpoint(source)
    model = checkpoint.config.model_dump(mode="json", exclude={"num_sources"})  # the task decides it
    below: dict[str, Any] = {
        "model": model,
        "data": {"corpus": {"sample_rate": checkpoint.config.sample_rate}},
    }
    if checkpoint.task in list(Task):
        below["task"] = checkpoint.task
    return [(source, below), *layers]


def _merged(layers: list[Layer]) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for _, layer in layers:
        data = _merge(data, layer)
    return data


def _keep_quiet(_note: str) -> None:
    """Do nothing; for a second reading of a file, whose remarks were given at the first."""


def _layers(
    path: Path | None, overrides: Sequence[str], say: Callable[[str], None] = _keep_quiet
) -> list[Layer]:
    layers: list[Layer] = []
    if path is not None:
        path = find_config(path)
        content = read_yaml(path)
        if not isinstance(content, Mapping):
            raise ConfigError(f"{path}: expected keys and values at the top, got {content!r}.")
        if is_original(content):
            upgraded = upgrade(content, str(path))
            content = upgraded.settings
            for note in upgraded.notes:
                say(note)
        layers.append((str(path), content))
    return layers + [("command line", _parse_override(override)) for override in overrides]


def parse_config(data: Mapping[str, Any]) -> Config:
    """An experiment from plain data; the task decides ``model.num_sources`` where it is not given.

    Raises:
        ConfigError: One line per mistake, each naming the key.
    """
    data = _merge({}, data)
    model = data.get("model")
    if isinstance(model, dict) and isinstance(corpus := data.get("data", {}).get("corpus"), dict):
        model.setdefault("sample_rate", corpus.get("sample_rate", 8000))
        expected = _task_sources(data.get("task", Task.SB), corpus)
        if expected is not None and model.get("model_type") in list_models():
            _set_sources(model, expected, data)
    _start_schedule(data)
    return parse(Config, data)


def _set_sources(model: dict[str, Any], expected: int, data: Mapping[str, Any]) -> None:
    """Give a separation model the number of sources of its task, where none is given."""
    mixit = look_up(data, "training.loss.name") == "mixit"
    given = model.setdefault("num_sources", 2 * expected if mixit else expected)
    if given != expected and not mixit:  # whose estimates are dealt out
        raise ConfigError(
            f"model.num_sources is {given}, but task {data.get('task', Task.SB)} has "
            f"{counted(expected, 'reference')}. Leave model.num_sources out to follow the task."
        )


def _start_schedule(data: dict[str, Any]) -> None:
    """Let the first stage of a curriculum with ``lr_scheduler: start`` say when the rate may fall."""
    stages = look_up(data, "data.corpus.curriculum")
    for stage in stages if isinstance(stages, list) else ():
        if isinstance(stage, Mapping) and stage.get("lr_scheduler") == "start":
            below = nest("training.optimizer.schedule_from_epoch", stage.get("epoch"))
            data["training"] = _merge(below, data)["training"]
            return


def _task_sources(task: Any, corpus: Mapping[str, Any]) -> int | None:
    speakers = corpus.get("num_speakers", 2)
    if task not in list(Task) or not isinstance(speakers, int):
        return None  # parsing will say what is wrong
    return Task(task).num_sources(speakers) or None


def _parse_override(text: str) -> dict[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        hint = (
            f" A file goes behind its option, e.g. --config {text}."
            if text.endswith((".yaml", ".yml"))
            else ""
        )
        raise ConfigError(f"'{text}': expected key=value, e.g. training.max_epochs=3.{hint}")
    return nest(key.strip(), parse_yaml(value, where=key))


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``over`` on ``base``, mapping by mapping; another type of model or corpus replaces the old one."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        if isinstance(value, Mapping):
            kinds = ("model_type", "corpus_type")
            changed = isinstance(old, Mapping) and any(
                kind in value and kind in old and value[kind] != old[kind] for kind in kinds
            )
            merged[key] = _merge(old if isinstance(old, Mapping) and not changed else {}, value)
        else:
            merged[key] = value
    return merged
