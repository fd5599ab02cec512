"""From what a user names to the architectures and publications that are meant."""

from __future__ import annotations

from polsess.checkpoints import Published, list_published
from polsess.overview.architectures import Architecture, describe_model, list_architectures
from polsess.schema import ConfigError, suggest


def select(name: str | None = None) -> tuple[list[Architecture], list[Published]]:
    """Everything, one architecture with its publications, or one publication with its architecture.

    Raises:
        ConfigError: If nothing has that name; the message names the nearest.
    """
    published = list_published()
    if name is None:
        return list_architectures(), published
    if "/" in name:
        found = [entry for entry in published if entry.hub_id == name]
        if not found:
            ids = [entry.hub_id for entry in published]
            raise ConfigError(f"Unknown publication '{name}'." + suggest(name, ids, "Available"))
        return [describe_model(found[0].model_type)], found
    return [describe_model(name)], [entry for entry in published if entry.model_type == name]
