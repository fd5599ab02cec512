"""The corpus of an evaluation: opened from a YAML file, a folder of items, or a CSV."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from polsess.audio import read_audio_info
from polsess.config import find_config, read_settings
from polsess.data import Corpus, Split, create_corpus, parse_corpus_config
from polsess.data.corpora.folder import find_sound, list_items
from polsess.schema import ConfigError
from polsess.tasks import Task

_YAML = {".yaml", ".yml"}


def open_corpus(
    data: Path,
    overrides: Sequence[str] = (),
    *,
    task: Task | None = None,
    default_task: Task | None = None,
    split: Split = Split.TEST,
    seed: int | None = None,
    sample_rate: int | None = None,
) -> Corpus:
    """Open the data of an evaluation.

    Args:
        data: A YAML file with ``corpus:`` or ``data.corpus:`` (e.g. a training configuration), the name of
            a recipe, a folder of items (``<item>/{mix,s1,s2}.wav``), the root of a PolSESS corpus, a manifest
            (a CSV with the columns ``mixture`` and ``source_1``), or the ``metadata.csv`` of speech clips, of
            which fixed mixtures, for OSD conversations and for SV pieces are made.
        overrides: ``key=value`` pairs, e.g. ``corpus.evaluation_examples=50``.
        task: The task; None for that of the YAML file.
        default_task: Task for data that does not specify one; None for SB.
        split: The part of the corpus.
        seed: Seed of the draws; None for that of the YAML file, else 0.
        sample_rate: Sample rate in Hz for data that does not specify one.

    Raises:
        ConfigError: If there is no such data, or it or an override is not understood.
    """
    data = data if data.exists() else find_config(data, "file or folder")
    settings = _settings_of(data, task)
    if sample_rate is not None and data.suffix.lower() not in _YAML:
        settings["corpus"].setdefault("sample_rate", sample_rate)
    settings = read_settings(None, overrides, settings)
    unknown = settings.keys() - {"corpus", "task", "seed"}
    if unknown:
        raise ConfigError(
            f"'{min(unknown)}': not a key of evaluation data. Known keys: corpus, task, seed; "
            "e.g. corpus.sample_rate=8000."
        )
    config = parse_corpus_config(settings["corpus"], "corpus")
    chosen = task or Task(settings.get("task", default_task or Task.SB))
    return create_corpus(config, split, chosen, settings.get("seed", 0) if seed is None else seed)


def _settings_of(data: Path, task: Task | None = None) -> dict[str, Any]:
    if data.is_dir() and _is_polsess(data):
        return {"corpus": {"corpus_type": "polsess", "root": str(data)}}
    if data.is_dir():
        return {"corpus": {"corpus_type": "folder", "folder": str(data), "sample_rate": _rate_of(data)}}
    if data.suffix.lower() == ".csv":
        return {"corpus": _corpus_of_csv(data, task)}
    if data.suffix.lower() not in _YAML:
        raise ConfigError(f"{data}: expected a folder of items, a .yaml or a metadata.csv.")
    content = read_settings(data)
    inner = content.get("data")
    corpus = content.get("corpus", inner.get("corpus") if isinstance(inner, Mapping) else None)
    if not isinstance(corpus, Mapping):
        raise ConfigError(f"{data}: no corpus in it; expected the key 'corpus' or 'data.corpus'.")
    return {"corpus": dict(corpus)} | {key: content[key] for key in ("task", "seed") if key in content}


def _is_polsess(folder: Path) -> bool:
    """Whether a folder contains the layers of PolSESS instead of items."""
    return any(all((folder / split / layer).is_dir() for layer in ("mix", "clean")) for split in Split)


def _corpus_of_csv(data: Path, task: Task | None) -> dict[str, Any]:
    """A manifest has mixtures, the list of speech clips has none."""
    with data.open(encoding="utf-8-sig", newline="") as file:
        columns = {name.strip() for name in next(csv.reader(file), [])}
    if {"mixture", "source_1"} <= columns:
        return {"corpus_type": "manifest", "manifest": str(data)}
    kinds = {Task.OSD: "conversations", Task.SV: "single_speakers"}
    return {"corpus_type": kinds.get(task, "speech_clips") if task else "speech_clips", "metadata": str(data)}


def _rate_of(folder: Path) -> int:
    """The sample rate of the first mixture of a folder, or of its test part."""
    root = folder / Split.TEST if (folder / Split.TEST).is_dir() else folder
    items = list_items(root)
    if not items:
        raise ConfigError(f"{folder}: no items in it; expected <item>/mix.wav, s1.wav, s2.wav (or .flac).")
    return read_audio_info(find_sound(root / items[0], "mix")).sample_rate


def names_of_data(places: Sequence[Path]) -> dict[Path, str]:
    """Names of the folders for results on several data, with folders above where the names are the same.

    Raises:
        ConfigError: If two are the same place.
    """
    names = [name_of_data(place) for place in places]
    whole = [place.resolve() for place in places]
    if twice := [place for place, path in zip(places, whole, strict=True) if whole.count(path) > 1]:
        raise ConfigError(f"-d {twice[0]}: the same data is named twice.")
    depth = 2
    while len({name.casefold() for name in names}) < len(names):
        parts = [path.parts[:-1] if path.name.lower() == "metadata.csv" else path.parts for path in whole]
        names = ["-".join(each[-depth:]).strip("/") for each in parts]
        depth += 1
    return dict(zip(places, names, strict=True))


def name_of_data(data: Path) -> str:
    """Name of the folder for results on this data."""
    return data.resolve().parent.name if data.name.lower() == "metadata.csv" else data.resolve().stem
