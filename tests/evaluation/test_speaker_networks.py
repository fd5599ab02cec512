"""Scores of detectors and embedders, against networks that know the answer or none."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from polsess.audio import write_audio
from polsess.checkpoints import save_model
from polsess.cli.main import app
from polsess.data import Split
from polsess.evaluation import open_corpus
from polsess.evaluation.speaker_networks import (
    CEPSTRA,
    EMBEDDING,
    DetectedItem,
    Trials,
    detection_rates,
    error_rates,
    evaluate_detector,
    evaluate_embedder,
    rates_by_condition,
)
from polsess.metrics import Detection
from polsess.models import ActivityDetector, NetworkConfig, SpeakerEmbedder, create_model
from polsess.tasks import Task
from polsess.timelines import activity, list_speakers
from polsess.training.objectives.activity import score_frames

RATE = 8000


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four voices of the test split, two clips each: buzzes of their own pitch and colour."""
    folder = tmp_path_factory.mktemp("voices")
    lines = ["path,speaker,sex,split"]
    time = torch.arange(4 * RATE) / RATE
    for voice in range(4):
        for take in range(2):
            pitch = 100 + 45 * voice + 3 * torch.sin(2 * math.pi * (1 + take) * time).cumsum(0) / RATE
            partials = [
                torch.sin(2 * math.pi * k * pitch * time) / k ** (0.5 + 0.4 * voice) for k in range(1, 9)
            ]
            sound = 0.1 * torch.stack(partials).sum(0) + 0.002 * torch.randn(len(time))
            write_audio(folder / f"{voice}{take}.wav", sound, RATE)
            lines.append(f"{voice}{take}.wav,voice{voice},{'MF'[voice % 2]},test")
    (folder / "metadata.csv").write_text("\n".join(lines))
    return folder / "metadata.csv"


class Listener(ActivityDetector):
    """Says of every sample block whether it is silent, and takes loud ones for overlaps."""

    hop_length = 160

    def __init__(self) -> None:
        super().__init__(NetworkConfig(model_type="listener"))
        self.weight = torch.nn.Parameter(torch.ones(1))

    def classify_frames(self, mixture: Tensor) -> Tensor:
        frames = self.num_frames(mixture.shape[-1])
        padded = torch.nn.functional.pad(mixture, (0, frames * 160 - mixture.shape[-1]))
        level = padded.unflatten(-1, (frames, 160)).square().mean(-1).sqrt()
        loud, heard = level > 0.2, level > 1e-3
        return 9.0 * torch.stack([~heard, heard & ~loud, loud], -1).float()


def test_a_detector_is_compared_with_the_timeline(clips: Path) -> None:
    overrides = ["corpus.evaluation_examples=3", "corpus.conversation_seconds=8"]
    corpus = open_corpus(clips, overrides, task=Task.OSD)
    model = Listener()
    done: list[tuple[int, int]] = []
    items = evaluate_detector(model, corpus, limit=2, progress=lambda *now: done.append(now))
    assert done == [(1, 2), (2, 2)]
    for index, item in enumerate(items):
        example = corpus.example(0, index)
        frames = 8 * RATE // 160 + 1
        true = activity(example.timeline, list_speakers(example.timeline), frames, 0.02).sum(0)
        decided = model(example.mixture[None])[0].argmax(-1).numpy()
        assert item.speech.found == ((decided > 0) & (true > 0)).sum()
        assert item.overlap.invented == ((decided == 2) & (true < 2)).sum()
        assert item.overlap.missed == ((decided != 2) & (true > 1)).sum()
    sure = evaluate_detector(model, corpus, threshold=1.0, limit=2)
    assert all(item.overlap.found == item.overlap.invented == 0 for item in sure)
    rates = rates_by_condition(model, corpus, ["level_difference_db", "voices"])
    assert rates[""]["all"]["speech_f1"].value > 0.9
    assert rates["voices"].keys() == {"2"}


class Hush(torch.nn.Module):
    """An enhancer that takes out everything that is not loud."""

    def forward(self, mixture: Tensor, lengths: None) -> Tensor:
        assert lengths is None
        return torch.where(mixture.abs() > 0.1, mixture, 0.0)


def test_networks_are_scored_as_they_hear_recordings(clips: Path) -> None:
    loud = open_corpus(
        clips, ["corpus.evaluation_examples=1", "corpus.conversation_seconds=8"], task=Task.OSD
    )
    example = loud.example(0, 0)
    heard = example.mixture * torch.where(example.mixture.abs() > 0.1, 1.0, 0.3)
    expected = score_frames(Listener(), heard, example.timeline)
    (item,) = evaluate_detector(Listener(), loud, enhancer=Hush())  # type: ignore[arg-type]
    assert (item.speech, item.overlap) == expected
    short = ["corpus.evaluation_examples=6", "corpus.evaluation_seconds=1"]
    pieces = open_corpus(clips, short, task=Task.SV)
    model = create_model("tdnn", kind=SpeakerEmbedder, preset="tiny").eval()
    plain = evaluate_embedder(model, pieces).similarities
    hushed = evaluate_embedder(model, pieces, enhancer=Hush()).similarities  # type: ignore[arg-type]
    assert not np.allclose(plain[EMBEDDING], hushed[EMBEDDING], atol=1e-3)
    np.testing.assert_array_equal(plain[CEPSTRA], hushed[CEPSTRA])


def test_rates_of_recordings_are_those_of_their_frames_together() -> None:
    items = [
        DetectedItem("a", {}, Detection(90, 10, 0), Detection(5, 5, 0)),
        DetectedItem("b", {}, Detection(50, 0, 50), Detection(0, 0, 10)),
    ]
    rates = detection_rates(items)
    assert rates["speech_precision"].value == 140 / 150
    assert rates["speech_recall"].value == 140 / 190
    assert rates["overlap_recall"].value == 5 / 15
    assert rates["overlap_recall"].low == 0.0  # of the second alone
    assert rates["overlap_recall"].high == 1.0  # of the first alone
    alone = detection_rates(items, [0])["speech_precision"]
    assert (alone.low, alone.value, alone.high) == (0.9, 0.9, 0.9)


def test_error_rates_count_pairs_of_pieces() -> None:
    random = np.random.default_rng(0)
    names = tuple(f"v{n // 6}" for n in range(48))
    speakers = np.arange(48) // 6
    same = speakers[:, None] == speakers[None]
    noise = random.normal(size=(48, 48))
    trials = Trials(names, ({},) * 48, {"good": same + 0.4 * (noise + noise.T), "blind": noise + noise.T})
    rates = error_rates(trials)
    assert rates["good"].value < 0.3 < rates["blind"].value
    assert rates["good"].low <= rates["good"].value <= rates["good"].high
    assert rates["blind"].low < 0.5 < rates["blind"].high + 0.1
    assert error_rates(trials, range(6))["good"].value != error_rates(trials, range(6))["good"].value  # NaN


class Knowing(SpeakerEmbedder):
    """Embeds a sound by where its power lies."""

    dimensions = 40

    def __init__(self) -> None:
        super().__init__(NetworkConfig(model_type="knowing"))
        self.weight = torch.nn.Parameter(torch.ones(1))

    def embed_speech(self, speech: Tensor) -> Tensor:
        power = torch.fft.rfft(speech).abs()[:, :800]
        return power.unflatten(-1, (40, -1)).sum(-1).log()


def test_pieces_of_one_voice_are_alike(clips: Path) -> None:
    corpus = open_corpus(clips, ["corpus.evaluation_examples=12"], task=Task.SV, split=Split.TEST)
    trials = evaluate_embedder(Knowing(), corpus)
    assert trials.speakers == tuple(f"voice{n % 4}" for n in range(12))
    assert trials.similarities.keys() == {EMBEDDING, CEPSTRA}
    for similarities in trials.similarities.values():
        assert np.allclose(similarities, similarities.T)
    rates = error_rates(trials)
    assert rates[CEPSTRA].value < 0.1
    assert error_rates(trials, [0, 1, 4, 5])[EMBEDDING].value <= 0.5


def test_the_command_prints_tables_and_writes_rates(clips: Path, tmp_path: Path) -> None:
    for name, kind in (("crnn", ActivityDetector), ("tdnn", SpeakerEmbedder)):
        save_model(create_model(name, kind=kind, preset="tiny"), tmp_path / name)
    short = ["corpus.evaluation_examples=3", "corpus.conversation_seconds=3"]
    words = ["speakers", "-d", str(clips), "-m", str(tmp_path / "crnn"), *short, "--by", "sexes"]
    with pytest.warns(UserWarning, match=r"no item has 'sex'\. Did you mean 'sexes'\?"):
        shown = CliRunner().invoke(app, [*words, "--by", "sex", "-o", str(tmp_path / "rates.json")])
    assert shown.exit_code == 0, shown.output
    assert "overlap precision" in shown.stdout
    assert "sexes" in shown.stdout
    written = json.loads((tmp_path / "rates.json").read_text())
    assert (written["task"], written["items"]) == ("OSD", 3)
    first = next(each for each in written["rates"] if each["rate"] == "speech_recall")
    assert (first["by"], first["group"]) == (None, "all")
    assert first["low"] <= first["value"] <= first["high"]
    heard = [*words, "-o", str(tmp_path / "heard.json"), "--enhancer", "enhance-one-streaming"]
    assert CliRunner().invoke(app, heard).exit_code == 0
    other = json.loads((tmp_path / "heard.json").read_text())
    assert (written["enhancer"], other["enhancer"]) == ("none", "enhance-one-streaming")
    pieces = ["corpus.evaluation_examples=8", "corpus.evaluation_seconds=1"]
    shown = CliRunner().invoke(app, ["speakers", "-d", str(clips), "-m", str(tmp_path / "tdnn"), *pieces])
    assert shown.exit_code == 0, shown.output
    assert CEPSTRA in shown.stdout


def test_wrong_requests_are_one_line(clips: Path, tmp_path: Path) -> None:
    save_model(create_model("tdnn", kind=SpeakerEmbedder, preset="tiny"), tmp_path / "tdnn")
    cases = {
        "default: bsrnn is a separation model; polsess separate": ["-m", "default"],
        "--threshold is for activity detectors": ["-m", str(tmp_path / "tdnn"), "--threshold", "0.7"],
        "enhancer: expected a model with one output at 8000 Hz, got default with 2 at 8000 Hz": [
            *("-m", str(tmp_path / "tdnn"), "--enhancer", "default")
        ],
    }
    for message, words in cases.items():
        shown = CliRunner().invoke(app, ["speakers", "-d", str(clips), *words])
        assert shown.exit_code != 0
        assert message in shown.output.replace("\n", " ")
