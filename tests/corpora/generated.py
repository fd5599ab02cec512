"""Corpora that are generated: their sources, and what lies in their files."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import torch

from polsess.audio import read_audio, write_audio
from polsess.data import Split
from polsess.data.polsess.generation import (
    GenerationConfig,
    Ingredients,
    collect_ingredients,
    generate_split,
)
from polsess.data.polsess.layers import FOLDERS

RATE, SECONDS = 8000, 0.5
SCENES = {"office": "indoor", "park": "outdoor", "metro_station": "indoor"}


def sound(path: Path, seconds: float, level: float = 0.05, rate: int = RATE, channels: int = 1) -> None:
    samples = level * torch.randn(channels, round(seconds * rate))
    write_audio(path, samples, rate, clip_mode="clamp")


def ingredients(
    sources: Path, *, rirs: Path | None = None, repeated: list[str] | None = None, **settings: Any
) -> dict[Split, Ingredients]:
    config = GenerationConfig(**{"name": "tiny", "seconds": SECONDS, "seed": 3, **settings})
    speech, scenes, events = (sources / name for name in ("speech", "scenes", "events"))
    lines = [] if repeated is None else repeated
    return collect_ingredients(
        config,
        list(Split),
        speech=speech,
        scenes=scenes,
        events=events,
        rirs=rirs,
        on_repeated=lines.append,
    )


def generate(root: Path, sources: Path, count: int = 8, workers: int = 1, **settings: Any) -> Path:
    for split, parts in ingredients(sources, **settings).items():
        generate_split(root, split, count, parts, num_workers=workers)
    return root


def content(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()
    }


def rows(root: Path, split: str = "train") -> list[dict[str, str]]:
    with (root / split / f"corpus_tiny_{split}_final.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def layer(root: Path, row: dict[str, str], column: str) -> np.ndarray:
    return read_audio(root / row["subset"] / FOLDERS[column] / row[column])[0][0].numpy()
