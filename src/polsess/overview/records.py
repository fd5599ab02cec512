"""Architectures and publications as plain data, for JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from polsess.checkpoints import Published
from polsess.overview.architectures import Architecture
from polsess.overview.literature import LITERATURE


def model_record(architecture: Architecture) -> dict[str, Any]:
    """An architecture with its sizes and what the literature reports of it."""
    literature = LITERATURE.get(architecture.name)
    return {**asdict(architecture), "literature": asdict(literature) if literature else None}


def checkpoint_record(entry: Published) -> dict[str, Any]:
    """A publication; the score is an improvement of SI-SDR in dB as its page states it."""
    return {
        "id": entry.hub_id,
        "page": entry.page,
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
        "score_conditions": entry.conditions or None,
        "score_source": entry.page if entry.score is not None else None,
        "revision": entry.revision,
    }
