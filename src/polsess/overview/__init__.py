"""Architectures with their sizes, published weights, and the scores that the literature reports."""

from polsess.overview.architectures import (
    Architecture,
    GoldenError,
    Preset,
    format_causality,
    format_macs,
    format_size,
)
from polsess.overview.literature import Literature, Score, published_scores, read_literature
from polsess.overview.selection import checkpoint_record, model_record, select
from polsess.overview.stored_facts import (
    architecture_sources,
    describe_model,
    list_architectures,
    source_digest,
    stored_architectures,
)

__all__ = [
    "Architecture",
    "GoldenError",
    "Literature",
    "Preset",
    "Score",
    "architecture_sources",
    "checkpoint_record",
    "describe_model",
    "format_causality",
    "format_macs",
    "format_size",
    "list_architectures",
    "model_record",
    "published_scores",
    "read_literature",
    "select",
    "source_digest",
    "stored_architectures",
]
