"""The PolSESS corpus: read, check and generate it."""

from polsess.data.polsess.reader import CurriculumStage, PolSESS, PolSESSConfig

__all__ = ["CurriculumStage", "PolSESS", "PolSESSConfig"]
