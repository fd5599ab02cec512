"""Makes PolSESS corpora from folders of speech, scenes and events."""

from polsess.data.generation.collecting import collect_ingredients
from polsess.data.generation.item import Ingredients
from polsess.data.generation.run import Generated, generate_split
from polsess.data.generation.settings import GenerationConfig
from polsess.data.sources import SourceFile, list_sources

__all__ = [
    "Generated",
    "GenerationConfig",
    "Ingredients",
    "SourceFile",
    "collect_ingredients",
    "generate_split",
    "list_sources",
]
