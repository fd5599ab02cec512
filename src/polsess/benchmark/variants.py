"""From what a user names to the models that are measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polsess.models import list_models, parse_model_config
from polsess.schema import ConfigError


@dataclass(frozen=True)
class Variant:
    """A model of the registry with fresh weights (``config``), or one with its own (``source``)."""

    name: str
    config: dict[str, Any] | None = None
    source: str | None = None


def parse_variants(
    names: Sequence[str], preset: str | None = None, sources: Sequence[str] = ()
) -> list[Variant]:
    """What to measure.

    Args:
        names: ``MODEL`` or ``MODEL:PRESET``; with none of these and no sources, every registered model.
        preset: For all names that have none of their own.
        sources: Weights in any format.

    Raises:
        ConfigError: If a model or preset is unknown, or a name comes twice.
    """
    chosen = list(names) or ([] if sources else list_models())
    variants = [_from_registry(name, preset) for name in chosen]
    variants += [Variant(Path(source).name or source, source=source) for source in sources]
    seen = [variant.name for variant in variants]
    for name in seen:
        if seen.count(name) > 1:
            raise ConfigError(f"{name}: named twice; name every model once.")
    return variants


def _from_registry(name: str, preset: str | None) -> Variant:
    model, _, own = name.partition(":")
    data: dict[str, Any] = {"model_type": model}
    if own or preset:
        data["preset"] = own or preset
    config = parse_model_config(data, name)
    label = f"{model}:{data['preset']}" if "preset" in data else model
    return Variant(label, config=config.model_dump(mode="json"))
