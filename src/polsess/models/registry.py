"""Which architectures exist: one decorator puts a model in, every list of models reads from here."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from polsess.models.base import ModelConfig, SeparationModel
from polsess.registry import Registry

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
