"""A small test with known sounds, and listeners with known opinions."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from polsess.audio import write_audio
from polsess.evaluation import FolderSystem, SavedEvaluation, evaluate
from polsess.listening import Clips, Key, ListeningPlan, ListeningTest, make_test
from polsess.listening.key import TrialKey
from tests.evaluation.corpora import open_folder

SYSTEMS = ("zanussi-net", "kieslowski-former")
RATE = 8000
Opinion = Callable[[str], float]


def speech_like(generator: torch.Generator, num_samples: int) -> Tensor:
    """Noise in syllables, so that it has pauses and a bandwidth."""
    time = torch.arange(num_samples) / RATE
    syllables = torch.sin(2 * torch.pi * (2 + torch.rand(1, generator=generator)) * time).clamp_min(0)
    return 0.1 * syllables * torch.randn(num_samples, generator=generator)


def write_estimates(folder: Path, num_items: int = 3, num_samples: int = 8000) -> Path:
    """Items with mixture and references, and two systems at odd levels whose estimates are exchanged."""
    generator = torch.Generator().manual_seed(3)
    for index in range(num_items):
        sources = torch.stack([speech_like(generator, num_samples) for _ in range(2)])
        item = folder / f"item{index}"
        for name, signal in zip(("mix", "s1", "s2"), (sources.sum(0), *sources), strict=True):
            write_audio(item / f"{name}.wav", signal, RATE)
        for place, (system, level) in enumerate(zip(SYSTEMS, (0.05, 1.4), strict=True)):
            (item / system).mkdir()
            for number, source in enumerate(sources.flip(0), start=1):
                noise = 0.02 * (1 + place) * torch.randn(num_samples, generator=generator)
                write_audio(item / system / f"s{number}.wav", level * (source + noise), RATE)
    return folder


def evaluated(folder: Path) -> list[SavedEvaluation]:
    """Finished evaluations of both systems."""
    data = write_estimates(folder / "data")
    found = []
    for name in SYSTEMS:
        evaluate(FolderSystem(data, name), open_folder(data), metrics=["si_snr"], folder=folder / name)
        found.append(SavedEvaluation(folder / name))
    return found


def small_test(evaluations: list[SavedEvaluation], **plan: Any) -> ListeningTest:
    return make_test(Clips(evaluations), ListeningPlan(**plan))


def answers(key: Key, listener: str, opinion: Opinion) -> dict[str, Any]:
    """What the page would save for a listener who thinks so of every condition."""
    trials = [
        {"trial": trial.id, "position": place, "seconds": 1.5, "order": [each.id for each in trial.stimuli]}
        | _given(key.kind.value, trial, opinion)
        for place, trial in enumerate(key.trials)
    ]
    head = {"format": "polsess-listening-answers-1", "test": key.test, "kind": key.kind.value}
    times = {"started": "2026-01-01T10:00:00Z", "finished": "2026-01-01T10:20:00Z"}
    return head | {"listener": listener} | times | {"trials": trials}


def _given(kind: str, trial: TrialKey, opinion: Opinion) -> dict[str, Any]:
    thought = {each.id: opinion(each.condition) for each in trial.stimuli}
    if kind == "mushra":
        return {"ratings": {name: round(value) for name, value in thought.items()}}
    if kind == "ab":
        best = max(thought.values())
        liked = [name for name, value in thought.items() if value == best]
        return {"choice": liked[0] if len(liked) == 1 else "none"}
    (value,) = thought.values()
    grade = min(5, max(1, round(value / 20)))
    scales = ["background", "signal", "overall"]
    return {"ratings": {"signal": grade, "background": max(1, grade - 1), "overall": grade}, "scales": scales}


def noisy(means: dict[str, float], seed: int, spread: float = 3.0) -> Opinion:
    """An opinion that varies; the reference is always recognised."""
    drawn = random.Random(seed)

    def opinion(condition: str) -> float:
        value = means[condition] + drawn.gauss(0, spread)
        return 100.0 if condition == "reference" else min(95.0, max(0.0, value))

    return opinion


def write_answers(folder: Path, *files: dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    for file in files:
        (folder / f"answers-{file['listener']}.json").write_text(json.dumps(file))
    return folder
