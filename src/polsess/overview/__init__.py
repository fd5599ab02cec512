"""What there is to choose from: architectures, their sizes, published weights, the literature's scores."""

from polsess.overview.architectures import Architecture, Preset, describe_model, list_architectures
from polsess.overview.document import format_causality, format_macs, format_size, render_markdown
from polsess.overview.literature import LITERATURE, Literature, Score
from polsess.overview.model_facts import GoldenError
from polsess.overview.records import checkpoint_record, model_record
from polsess.overview.selection import published_scores, select

__all__ = [
    "LITERATURE",
    "Architecture",
    "GoldenError",
    "Literature",
    "Preset",
    "Score",
    "checkpoint_record",
    "describe_model",
    "format_causality",
    "format_macs",
    "format_size",
    "list_architectures",
    "model_record",
    "published_scores",
    "render_markdown",
    "select",
]
