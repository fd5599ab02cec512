"""From what a user names to the architectures and publications that are meant."""

from __future__ import annotations

from polsess.checkpoints import Published, list_published
from polsess.models import ModelConfig, list_presets, parse_model_config
from polsess.overview.architectures import Architecture, describe_model, list_architectures
from polsess.overview.literature import LITERATURE, Score
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


def published_scores(name: str, corpus: str) -> list[Score]:
    """What the literature reports of one configuration on the corpus or the same data under another name.

    Args:
        name: ``MODEL`` or ``MODEL:PRESET``.
        corpus: E.g. ``WSJ0-2mix``.

    Returns:
        Scores whose size is that of the configuration; none for models that are not registered.
    """
    model, _, preset = name.partition(":")
    if model not in LITERATURE:
        return []
    wanted = _configuration(model, preset or "default")
    return [
        score
        for score in LITERATURE[model].scores
        if corpus in score.corpus and _configuration(model, score.preset or score.size) == wanted
    ]


def _configuration(model: str, preset: str) -> ModelConfig | None:
    """None where there is no such preset."""
    if preset == "default":
        return parse_model_config({"model_type": model})
    if preset not in list_presets(model):
        return None
    return parse_model_config({"model_type": model, "preset": preset})
