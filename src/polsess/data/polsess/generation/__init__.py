"""Generator of PolSESS corpora from folders of speech, scenes and events."""

from polsess.data.polsess.generation.conversation import ConversationConfig
from polsess.data.polsess.generation.run import Generated, generate_split
from polsess.data.polsess.generation.settings import GenerationConfig, Ingredients, collect_ingredients
from polsess.data.sources import SourceFile, list_sources

__all__ = [
    "ConversationConfig",
    "Generated",
    "GenerationConfig",
    "Ingredients",
    "SourceFile",
    "collect_ingredients",
    "generate_split",
    "list_sources",
]
