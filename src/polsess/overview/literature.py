"""Reports of papers and repositories on each architecture: scores, their conditions, licences, formats."""

from __future__ import annotations

import functools
from importlib.resources import files
from typing import Literal

from polsess.schema import Schema, parse
from polsess.yaml_files import parse_yaml


class Score(Schema):
    """One published number."""

    corpus: str
    """The test set; 8 kHz, the shorter of the utterances (min), unless it says otherwise."""
    value: float
    """In dB."""
    size: str = ""
    """The configuration as the source names it; ``""`` where the source has one only."""
    preset: str = ""
    """The configuration here that has this size, where ``size`` is not its name."""
    sdri: float | None = None
    """Improvement of SDR in dB, where the source states it too."""
    dynamic_mixing: bool | None = False
    """Whether training mixed on the fly (up to 2 dB more); None if the source is silent."""
    source: str = "the paper"
    """Publication of the number."""
    metric: Literal["SI-SNRi", "SI-SNR", "SDR"] = "SI-SNRi"
    """An improvement over the mixture (SI-SNRi), or an absolute value."""


class Literature(Schema):
    """Reports on one architecture."""

    licenses: str = "not recorded"
    """Licences of the reference code and of weights; the code here is this library's own."""
    paper: str = ""
    """First author and year of the architecture's paper."""
    formats: tuple[str, ...] = ()
    """Formats of ``load_model`` with weights of this architecture, besides our own."""
    notes: tuple[str, ...] = ()
    """Traps when comparing."""
    scores: tuple[Score, ...] = ()


@functools.cache
def read_literature() -> dict[str, Literature]:
    """The reports on every architecture that has any, by its name; read from ``literature.yaml``."""
    data = parse_yaml((files("polsess.overview") / "literature.yaml").read_text("utf-8"), "literature.yaml")
    return {name: parse(Literature, entry, f"literature.yaml: {name}") for name, entry in data.items()}


def published_scores(name: str, corpus: str) -> list[Score]:
    """Scores of one configuration on a corpus, or on the same data under another name.

    Args:
        name: ``MODEL`` or ``MODEL:PRESET``.
        corpus: E.g. ``WSJ0-2mix``.

    Returns:
        Scores whose size is that of the configuration; none for models that are not registered.
    """
    model, _, preset = name.partition(":")
    if model not in read_literature():
        return []
    scores = [score for score in read_literature()[model].scores if corpus in score.corpus]
    return [score for score in scores if _same_size(model, score.preset or score.size, preset or "default")]


def _same_size(model: str, *presets: str) -> bool:
    """Whether all are presets of the model that mean one configuration."""
    from polsess.models import list_presets, parse_model_config

    if not {*presets} <= {"default", *list_presets(model)}:
        return False
    chosen = [{} if preset == "default" else {"preset": preset} for preset in presets]
    configs = [parse_model_config({"model_type": model, **each}) for each in chosen]
    return all(config == configs[0] for config in configs)
