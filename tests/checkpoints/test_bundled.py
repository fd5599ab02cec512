"""The small models that come with the package."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

import polsess
from polsess import Separator, StreamingSeparator
from polsess.audio import read_audio
from polsess.checkpoints import BUNDLED_MODELS, load_model, read_checkpoint
from polsess.models import ActivityDetector, ModelConfig, Network, SpeakerEmbedder, get_model_class
from polsess.signal_ratios import si_snr
from polsess.tasks import Task

MODELS = Path(polsess.__file__).parent / "assets" / "models"
MINI = Path(__file__).parents[1] / "data" / "polsess_mini" / "test"


TASKS = (Task.SB, Task.SB, Task.SB, Task.ES, Task.ES, Task.EB, Task.EB, Task.ES, Task.OSD, Task.SV)


@pytest.mark.parametrize(("name", "task"), list(zip(BUNDLED_MODELS, TASKS, strict=True)))
def test_they_are_small_and_say_what_they_are(name: str, task: Task) -> None:
    checkpoint = read_checkpoint(name)
    assert checkpoint.task == task
    assert task in get_model_class(checkpoint.config.model_type, Network).tasks
    if isinstance(checkpoint.config, ModelConfig):
        assert checkpoint.config.num_sources == task.num_sources(2)
    assert sum(path.stat().st_size for path in (MODELS / name).iterdir()) < 8_000_000
    provenance = (MODELS / name / "config.json").read_text()
    assert "/tmp" not in provenance
    assert "/home" not in provenance


@pytest.mark.parametrize("name", BUNDLED_MODELS)
def test_cards_say_what_was_measured(name: str) -> None:
    card = (MODELS / name / "README.md").read_text()
    assert card.startswith("---\n")
    for fact in ("license:", "95 % interval", "unseen speakers", "LibriSpeech", "Recipe: `"):
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


def test_a_voice_is_freed_of_hiss_while_it_comes_in() -> None:
    """As much as of the whole, late by 64 ms at most."""
    stream = StreamingSeparator.from_pretrained("enhance-one-streaming")
    assert stream.latency_samples == 511
    gains = []
    for path in sorted((MINI / "clean").glob("*.wav"))[:4]:
        speech = read_audio(path)[0][0]
        generator = torch.Generator().manual_seed(0)
        noisy = speech + 0.7 * speech.std() * torch.randn(speech.shape, generator=generator)
        pieces = [stream.push(piece) for piece in noisy.split(400)]
        enhanced = torch.cat([*pieces, stream.flush()], -1)[0]
        gains.append(si_snr(enhanced, speech) - si_snr(noisy, speech))
    assert float(torch.stack(gains).mean()) > 1.0


def test_two_voices_are_separated_while_they_come_in(voices: Tensor) -> None:
    """As much as of the whole, late by 5 ms at most."""
    stream = StreamingSeparator.from_pretrained("default-streaming")
    assert stream.latency_samples == 39
    gains = []
    for pair in torch.stack([voices, voices.roll(4, 0)], 1)[:5]:
        mixture = 0.1 * pair.sum(0)
        pieces = [stream.push(piece) for piece in mixture.split(400)]
        estimates = torch.cat([*pieces, stream.flush()], -1)
        scores = [si_snr(estimates, order).mean() for order in (pair, pair.flip(0))]
        gains.append(max(scores) - si_snr(mixture.expand(2, -1), pair).mean())
    assert float(torch.stack(gains).mean()) > 1.0


@pytest.fixture
def voices() -> Tensor:
    """A second of speech each, ``[10, 8000]``."""
    sounds = [read_audio(path)[0][0, :8000] for path in sorted((MINI / "clean").glob("*.wav"))]
    return torch.stack([sound / sound.std() for sound in sounds])


def test_two_voices_are_more_than_one(voices: Tensor) -> None:
    detector = load_model("activity-detector", kind=ActivityDetector)
    with torch.no_grad():
        several = [
            detector(0.1 * sounds).softmax(-1)[..., 2].mean()
            for sounds in (voices, voices + voices.roll(1, 0))
        ]
    assert several[1] > several[0] + 0.2


def test_two_halves_of_a_voice_are_nearer_than_two_voices(voices: Tensor) -> None:
    embedder = load_model("speaker-embedder", kind=SpeakerEmbedder)
    first, second = (embedder.embed(half, 8000) for half in voices.split(4000, dim=1))
    cosines = first @ second.T
    assert cosines.diagonal().mean() > cosines.mean() + 0.2
