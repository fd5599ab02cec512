"""Architectures with their sizes, published weights, and the scores that the literature reports."""

from polsess.overview.architectures import (
    Architecture,
    GoldenError,
    Preset,
    architecture_sources,
    describe_model,
    format_causality,
    format_macs,
    format_size,
    list_architectures,
    source_digest,
    stored_architectures,
)
from polsess.overview.literature import Literature, Score, published_scores, read_literature
from polsess.overview.selection import checkpoint_record, model_record, select

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
