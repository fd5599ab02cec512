"""Every architecture by its name, and models made from a name, a preset or plain data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar, overload

from polsess.models.base import ModelConfig, SeparationModel
from polsess.models.network import Network, NetworkConfig
from polsess.registry import Registry
from polsess.schema import ConfigError, parse, suggest

MODEL_REGISTRY: Registry[Network] = Registry("model")
"""Every architecture of every kind by its name."""

NetworkT = TypeVar("NetworkT", bound=Network)


def register_model(
    name: str, config_class: type[NetworkConfig]
) -> Callable[[type[NetworkT]], type[NetworkT]]:
    """Register a model class under a name.

    Args:
        name: The name in configurations and commands: lower case, no separators, e.g. ``"convtasnet"``.
        config_class: Its configuration, whose ``model_type`` has this name as its only value.

    Raises:
        ValueError: If the name is taken.
    """

    def register(model_class: type[NetworkT]) -> type[NetworkT]:
        model_class.model_type = name
        model_class.config_class = config_class
        MODEL_REGISTRY.add(name, model_class)
        return model_class

    return register


@overload
def get_model_class(name: str) -> type[SeparationModel]: ...
@overload
def get_model_class(name: str, kind: type[NetworkT]) -> type[NetworkT]: ...
def get_model_class(name: str, kind: type[Network] = SeparationModel) -> type[Network]:
    """The class registered under a name.

    Args:
        name: The name of an architecture.
        kind: What it has to be; ``Network`` takes every kind, the class of an architecture that one only.

    Raises:
        ConfigError: If there is none of that kind; the message names the nearest and all, or says what the
            architecture is.
    """
    if name not in MODEL_REGISTRY:
        raise ConfigError(f"Unknown model '{name}'." + suggest(name, list_models(kind), "Available"))
    found = MODEL_REGISTRY[name]
    if not issubclass(found, kind):
        if found.kind == kind.kind:  # one architecture is asked for
            raise ConfigError(f"{name}: expected the architecture {' or '.join(list_models(kind))}.")
        raise ConfigError(f"{name} is a {found.kind}, not a {kind.kind}; {found.usage}.")
    return found


def list_models(kind: type[Network] = SeparationModel) -> list[str]:
    """The names of all architectures of a kind, sorted."""
    return sorted(name for name, found in MODEL_REGISTRY.items() if issubclass(found, kind))


def list_presets(name: str) -> list[str]:
    """The named configurations of an architecture, sorted.

    Raises:
        ConfigError: If there is no such architecture.
    """
    return sorted(get_model_class(name, Network).presets)


@overload
def parse_model_config(data: Mapping[str, Any] | ModelConfig, where: str = "model") -> ModelConfig: ...
@overload
def parse_model_config(
    data: Mapping[str, Any] | NetworkConfig, where: str = "model", *, kind: type[Network]
) -> NetworkConfig: ...
def parse_model_config(
    data: Mapping[str, Any] | NetworkConfig, where: str = "model", *, kind: type[Network] = SeparationModel
) -> NetworkConfig:
    """Read a configuration: ``model_type`` picks the class, ``preset`` named values, the rest overrides.

    Args:
        data: Plain data such as ``{"model_type": "convtasnet", "preset": "tiny", "num_sources": 3}``.
        where: Dotted path of the data in its file, for messages.
        kind: What it has to be the configuration of; ``Network`` takes every kind.

    Raises:
        ConfigError: If the model or preset is unknown, of another kind, or a key or value is wrong.
    """
    if isinstance(data, NetworkConfig):
        return data
    if not isinstance(data, Mapping) or not isinstance(data.get("model_type"), str):
        raise ConfigError(f"{where}.model_type: missing; write the name of a model, e.g. convtasnet.")
    name = data["model_type"]
    model_class = get_model_class(name, kind)
    values = {key: value for key, value in data.items() if key != "preset"}
    if (preset := data.get("preset")) is not None:
        if preset not in model_class.presets:
            raise ConfigError(
                f"{where}.preset: unknown preset '{preset}' of {name}."
                + suggest(str(preset), list_presets(name), "Available")
            )
        values = {**model_class.presets[preset], **values}
    return parse(model_class.config_class, values, where)


@overload
def create_model(
    config: NetworkConfig | Mapping[str, Any] | str,
    *,
    kind: type[NetworkT],
    preset: str | None = None,
    **overrides: Any,
) -> NetworkT: ...
@overload
def create_model(
    config: ModelConfig | Mapping[str, Any] | str,
    *,
    kind: None = None,
    preset: str | None = None,
    **overrides: Any,
) -> SeparationModel: ...
def create_model(
    config: NetworkConfig | Mapping[str, Any] | str,
    *,
    kind: type[Network] | None = None,
    preset: str | None = None,
    **overrides: Any,
) -> Network:
    """Build a model with fresh weights.

    Args:
        config: A model's name, its configuration, or plain data with ``model_type``.
        kind: What it has to be; None for a separation model, ``Network`` for any kind.
        preset: A named configuration of that model, see ``list_presets``.
        **overrides: Fields of the configuration to change.

    Raises:
        ConfigError: If the name, the kind, the preset, a key or a value is wrong.

    Examples:
        >>> from polsess import create_model
        >>> create_model("convtasnet", preset="tiny", num_sources=3).output_sources
        3
    """
    if isinstance(config, str):
        data: dict[str, Any] = {"model_type": config}
    else:
        data = config.model_dump() if isinstance(config, NetworkConfig) else dict(config)
    if preset is not None:
        data["preset"] = preset
    wanted = kind or SeparationModel
    resolved = parse_model_config({**data, **overrides}, kind=wanted)
    return get_model_class(resolved.model_type, wanted).from_config(resolved)
