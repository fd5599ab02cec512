"""The small models that come with the package."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import polsess
from polsess import Separator
from polsess.audio import read_audio
from polsess.checkpoints import BUNDLED_MODELS, read_checkpoint
from polsess.models import ModelConfig, Network, get_model_class
from polsess.signal_ratios import si_snr
from polsess.tasks import Task

MODELS = Path(polsess.__file__).parent / "assets" / "models"
MINI = Path(__file__).parents[1] / "data" / "polsess_mini" / "test"


@pytest.mark.parametrize(
    ("name", "task"), list(zip(BUNDLED_MODELS, (Task.SB, Task.ES, Task.EB, Task.OSD, Task.SV), strict=True))
)
def test_they_are_small_and_say_what_they_are(name: str, task: Task) -> None:
    checkpoint = read_checkpoint(name)
    assert checkpoint.task == task
    assert task in get_model_class(checkpoint.config.model_type, Network).tasks
    if isinstance(checkpoint.config, ModelConfig):
        assert checkpoint.config.num_sources == task.num_sources(2)
    assert sum(path.stat().st_size for path in (MODELS / name).iterdir()) < 5_000_000
    provenance = (MODELS / name / "config.json").read_text()
    assert "/tmp" not in provenance
    assert "/home" not in provenance


@pytest.mark.parametrize("name", BUNDLED_MODELS[:4])
def test_cards_say_what_was_measured(name: str) -> None:
    card = (MODELS / name / "README.md").read_text()
    assert card.startswith("---\n")
    for fact in ("license:", "95 % interval", "unseen speakers", "LibriSpeech", "Recipe: `polsess train"):
        assert fact in card, fact


def test_no_folder_is_there_that_has_no_name() -> None:
    assert {path.name for path in MODELS.iterdir()} == set(BUNDLED_MODELS)


def test_speech_is_freed_of_scenes() -> None:
    """Nearer to the speech by more than a decibel in the mean over pairs of speech and scene."""
    separator = Separator.from_pretrained("enhance-both", device="cpu")
    gains = []
    for paths in zip(*(sorted((MINI / layer).glob("*.wav")) for layer in ("clean", "scene")), strict=False):
        speech, scene = (read_audio(path)[0][0] for path in paths)
        enhanced = separator.separate(speech + scene, 8000).sources[0]
        gains.append(si_snr(enhanced, speech) - si_snr(speech + scene, speech))
    assert float(torch.stack(gains).mean()) > 1.0
