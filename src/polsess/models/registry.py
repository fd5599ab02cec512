"""Every architecture by its name, and models made from a name, a preset or plain data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from polsess.models.base import ModelConfig, SeparationModel
from polsess.registry import Registry
from polsess.schema import ConfigError, parse, suggest

MODEL_REGISTRY: Registry[SeparationModel] = Registry("model")
"""Every architecture by its name."""

ModelT = TypeVar("ModelT", bound=SeparationModel)


def register_model(name: str, config_class: type[ModelConfig]) -> Callable[[type[ModelT]], type[ModelT]]:
    """Register a model class under a name.

    Args:
        name: The name in configurations and commands: lower case, no separators, e.g. ``"convtasnet"``.
        config_class: Its configuration, whose ``model_type`` has this name as its only value.

    Raises:
        ValueError: If the name is taken.
    """

    def register(model_class: type[ModelT]) -> type[ModelT]:
        model_class.model_type = name
        model_class.config_class = config_class
        MODEL_REGISTRY.add(name, model_class)
        return model_class

    return register


def get_model_class(name: str) -> type[SeparationModel]:
    """The class registered under a name.

    Raises:
        ConfigError: If there is none; the message names the nearest and all.
    """
    return MODEL_REGISTRY.find(name)


def list_models() -> list[str]:
    """The names of all architectures, sorted."""
    return sorted(MODEL_REGISTRY)


def list_presets(name: str) -> list[str]:
    """The named configurations of an architecture, sorted.

    Raises:
        ConfigError: If there is no such architecture.
    """
    return sorted(get_model_class(name).presets)


def parse_model_config(data: Mapping[str, Any] | ModelConfig, where: str = "model") -> ModelConfig:
    """Read a configuration: ``model_type`` picks the class, ``preset`` named values, the rest overrides.

    Args:
        data: Plain data such as ``{"model_type": "convtasnet", "preset": "tiny", "num_sources": 3}``.
        where: Dotted path of the data in its file, for messages.

    Raises:
        ConfigError: If the model or preset is unknown, or a key or value is wrong.
    """
    if isinstance(data, ModelConfig):
        return data
    if not isinstance(data, Mapping) or not isinstance(data.get("model_type"), str):
        raise ConfigError(f"{where}.model_type: missing; write the name of a model, e.g. convtasnet.")
    name = data["model_type"]
    model_class = get_model_class(name)
    values = {key: value for key, value in data.items() if key != "preset"}
    if (preset := data.get("preset")) is not None:
        if preset not in model_class.presets:
            raise ConfigError(
                f"{where}.preset: unknown preset '{preset}' of {name}."
                + suggest(str(preset), list_presets(name), "Available")
            )
        values = {**model_class.presets[preset], **values}
    return parse(model_class.config_class, values, where)


def create_model(
    config: ModelConfig | Mapping[str, Any] | str, *, preset: str | None = None, **overrides: Any
) -> SeparationModel:
    """Build a model with fresh weights.

    Args:
        config: A model's name, its configuration, or plain data with ``model_type``.
        preset: A named configuration of that model, see ``list_presets``.
        **overrides: Fields of the configuration to change.

    Raises:
        ConfigError: If the name, the preset, a key or a value is wrong.

    Examples:
        >>> from polsess import create_model
        >>> create_model("convtasnet", preset="tiny", num_sources=3).output_sources
        3
    """
    if isinstance(config, str):
        data: dict[str, Any] = {"model_type": config}
    else:
        data = config.model_dump() if isinstance(config, ModelConfig) else dict(config)
    if preset is not None:
        data["preset"] = preset
    resolved = parse_model_config({**data, **overrides})
    return get_model_class(resolved.model_type).from_config(resolved)
