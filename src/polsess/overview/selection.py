"""Architectures and publications that a user names, and both as plain data."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from polsess.checkpoints import Published, list_published
from polsess.overview.architectures import Architecture
from polsess.overview.literature import read_literature
from polsess.overview.stored_facts import describe_model, list_architectures
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


def model_record(architecture: Architecture) -> dict[str, Any]:
    """An architecture with its sizes and what the literature reports of it, as plain data."""
    literature = read_literature().get(architecture.name)
    return {**asdict(architecture), "literature": literature.model_dump() if literature else None}


def checkpoint_record(entry: Published) -> dict[str, Any]:
    """A publication as plain data; the score is the one that its page states."""
    return {
        "id": entry.hub_id,
        "page": entry.page,
        "download": entry.download,
        "format": entry.format,
        "files": list(entry.files),
        "architecture": entry.model_type,
        "task": entry.task,
        "sample_rate": entry.sample_rate,
        "num_sources": entry.num_sources,
        "training_data": entry.corpus,
        "license": entry.license,
        "license_notes": list(entry.license_notes),
        "si_sdr_improvement_db": entry.score,
        "si_snr_db": entry.si_snr,
        "score_conditions": entry.conditions or None,
        "score_source": entry.page if entry.stated_score else None,
        "revision": entry.revision,
    }
