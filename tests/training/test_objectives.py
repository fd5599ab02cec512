"""Training for the tasks that estimate no signals: who speaks when, and whose voice."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from typer.testing import CliRunner

from polsess.audio import write_audio
from polsess.checkpoints import load_model, save_model
from polsess.cli.main import app
from polsess.config import parse_config
from polsess.data import Split, collate, create_corpus
from polsess.losses import angular_margin_loss
from polsess.models import ActivityDetector, Network, SpeakerEmbedder, create_model, get_model_class
from polsess.schema import ConfigError
from polsess.timelines import Turn
from polsess.training import objectives
from polsess.training.failures import TrainingStopped
from polsess.training.history import read_run
from polsess.training.module import TrainingModule
from polsess.training.monitor import monitor_of
from polsess.training.objectives import create_objective
from polsess.training.objectives.activity import count_voices
from polsess.training.replay import replay_step
from polsess.training.run import TrainingResult, train
from polsess.training.run_table import render_runs

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
RATE = 8000


@pytest.fixture(scope="module")
def metadata(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three voices in training and in validation, buzzing at pitches of their own, with pauses."""
    folder = tmp_path_factory.mktemp("buzz")
    lines = ["path,speaker,sex,split"]
    time = torch.arange(5 * RATE) / RATE
    for split in ("train", "val"):
        for number in range(3):
            buzz = sum(torch.sin(2 * math.pi * (110 + 70 * number) * k * time) for k in range(1, 9)) / 10
            write_audio(folder / f"{split}{number}.wav", buzz * (time % 1.3 < 1.0), RATE)
            lines.append(f"{split}{number}.wav,{split}{number},F,{split}")
    (folder / "metadata.csv").write_text("\n".join(lines))
    return folder / "metadata.csv"


def experiment(task: str, metadata: Path, **training: Any) -> dict[str, Any]:
    corpora: dict[str, dict[str, Any]] = {
        "OSD": {"corpus_type": "conversations", "segment_seconds": 1.5, "conversation_seconds": 3.0},
        "SV": {"corpus_type": "single_speakers", "segment_seconds": 0.6, "evaluation_seconds": 0.5},
    }
    own = {"verification": {"crop_seconds": [0.3, 0.6], "margin_steps": 4}} if task == "SV" else {}
    return {
        "task": task,
        "seed": 3,
        "model": {"model_type": {"OSD": "crnn", "SV": "tdnn"}[task], "preset": "tiny"},
        "data": {
            "corpus": {
                **corpora[task],
                "metadata": str(metadata),
                "examples_per_epoch": 32,
                "evaluation_examples": 8,
            },
            "batch_size": 8,
        },
        "training": {
            "max_epochs": 2,
            "device": "cpu",
            "ema_decay": 0.5,
            "optimizer": {"learning_rate": 0.01},
            **own,
            **training,
        },
    }


def run(settings: dict[str, Any], folder: Path, **options: Any) -> TrainingResult:
    return train(parse_config(settings), folder, progress=False, **options)


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(("task", "kind"), [("OSD", ActivityDetector), ("SV", SpeakerEmbedder)])
def test_a_stopped_run_goes_on_as_if_it_had_not_been(
    task: str, kind: type[Network], metadata: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hearing = {"hearing": {"probability": 0.5}} if task == "OSD" else {}
    through = run(experiment(task, metadata, **hearing), tmp_path / "through")
    original = TrainingModule.training_step

    def training_step(self: TrainingModule, batch: Any, batch_idx: int) -> None:
        if self.global_step == 5:
            raise KeyboardInterrupt
        original(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingModule, "training_step", training_step)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            run(experiment(task, metadata, **hearing), tmp_path / "halves")
    halves = run(experiment(task, metadata, **hearing), tmp_path / "halves", resume=True)
    assert halves.best_score == through.best_score
    states = [
        torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for name in ("through", "halves")
    ]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
    parts = {key.split(".")[1] for key in states[0] if key.startswith("objective.")}
    assert parts == {"SV": {"class_weights"}, "OSD": {"enhancer"}}[task]
    model = load_model(tmp_path / "through", kind=kind)  # without the classes of the training
    assert not [key for key in model.state_dict() if "class_weights" in key]
    monitor, rows = monitor_of(task), rows_of(tmp_path / "through")
    scores = [float(row[monitor.column]) for row in rows]
    best = max(scores) if monitor.higher_is_better else min(scores)
    assert through.best_score == pytest.approx(best, abs=1e-4)


def test_what_decides_is_named_everywhere(metadata: Path, tmp_path: Path) -> None:
    said: list[str] = []
    for task in ("OSD", "SV"):
        run(experiment(task, metadata), tmp_path / task, say_epoch=said.append)
    table = render_runs([read_run(tmp_path / task) for task in ("OSD", "SV")])
    assert "F1 of overlap" in table
    assert "% EER" in table
    assert "SI-SNRi" not in table + "".join(said)
    assert "% EER" not in render_runs([read_run(tmp_path / "SV")])
    assert "best EER [%]" in render_runs([read_run(tmp_path / "SV")])
    (record,) = json.loads(render_runs([read_run(tmp_path / "SV")], "json"))
    errors = [float(row["val_eer"]) for row in rows_of(tmp_path / "SV")]
    assert record["best_eer_percent"] == min(errors)
    columns = rows_of(tmp_path / "OSD")[0].keys()
    assert {
        f"val_{of}_{what}" for of in ("speech", "overlap") for what in ("precision", "recall", "f1")
    } <= columns


@pytest.mark.parametrize("task", ["OSD", "SV"])
def test_a_dry_run_and_a_replay_know_the_task(
    task: str, metadata: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a_b.yaml").write_text(json.dumps(experiment(task, metadata)))
    shown = CliRunner().invoke(app, ["train", "-c", str(tmp_path / "a_b.yaml"), "--dry-run"])
    assert shown.exit_code == 0, shown.output
    assert "multiply-accumulates" in shown.output
    name, method = {"OSD": ("crnn", "classify_frames"), "SV": ("tdnn", "embed_speech")}[task]
    network = get_model_class(name, Network)
    original = getattr(network, method)
    monkeypatch.setattr(network, method, lambda self, sound: original(self, sound) * math.nan)
    with pytest.raises(TrainingStopped, match="limit 0"):
        run(experiment(task, metadata, max_skipped_steps=0), tmp_path / "run")
    replay = replay_step(tmp_path / "run" / "replay.pt")
    assert replay.reproduced
    assert len(replay.items) == 8


def test_the_loss_of_a_detector_is_the_cross_entropy_of_counted_voices(metadata: Path) -> None:
    config = parse_config(experiment("OSD", metadata))
    corpus = create_corpus(config.data.corpus, Split.TRAIN, config.task, config.seed)
    batch = collate([((0, index), corpus.example(0, index)) for index in range(3)])
    model = create_model(config.model, kind=ActivityDetector).eval()
    loss = create_objective(config, model, corpus).loss(model, batch, 0)
    expected = []
    for row, timeline in enumerate(batch.timelines):
        scores = model(batch.mixture[row : row + 1])[0].log_softmax(-1)
        for frame, logs in enumerate(scores):
            middle = (frame + 0.5) * model.hop_seconds
            voices = sum(turn.start <= middle < turn.end for turn in timeline)
            expected.append(-logs[min(voices, 2)])
    torch.testing.assert_close(loss, torch.stack(expected).mean())


def test_bfloat16_is_for_the_processor_too(
    metadata: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = []
    for precision in ("float32", "bfloat16"):
        run(experiment("SV", metadata, precision=precision, max_epochs=1), tmp_path / precision)
        losses.append(float(rows_of(tmp_path / precision)[0]["train_loss"]))
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)
    monkeypatch.setattr(get_model_class("tdnn", Network), "amp_dtype", None)
    with pytest.raises(ConfigError, match=r"training\.precision: tdnn trains in float32 only"):
        parse_config(experiment("SV", metadata, precision="bfloat16"))


def test_voices_are_counted_by_the_timeline() -> None:
    turns = (Turn(0.0, 0.3, "a"), Turn(0.2, 0.5, "b"), Turn(0.2, 0.3, "c"))
    assert count_voices(turns, 6, 0.1).tolist() == [1, 1, 2, 1, 1, 0]
    assert count_voices((), 3, 0.1).tolist() == [0, 0, 0]


class Hushed(torch.nn.Module):
    """Hears half of everything, with a norm that would learn if it were trained."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = torch.nn.Parameter(torch.tensor(0.5))
        self.norm = torch.nn.BatchNorm1d(1)

    def forward(self, mixture: Tensor, lengths: Tensor) -> Tensor:
        assert not self.training
        assert len(lengths) == len(mixture)
        return self.factor * mixture


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_networks_hear_through_an_enhancer(
    probability: float, metadata: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = parse_config(experiment("OSD", metadata, hearing={"probability": probability}))
    corpus = create_corpus(config.data.corpus, Split.TRAIN, config.task, config.seed)
    batch = collate([((0, index), corpus.example(0, index)) for index in range(3)])
    model = create_model(config.model, kind=ActivityDetector).eval()
    plain = create_objective(parse_config(experiment("OSD", metadata)), model, corpus)
    monkeypatch.setattr(objectives, "load_enhancer", lambda *_: Hushed())
    heard = create_objective(config, model, corpus).train()
    assert not [each for each in heard.parameters() if each.requires_grad]
    hushed = replace(batch, mixture=0.65 * batch.mixture)  # 0.7 of what the enhancer takes out
    torch.testing.assert_close(
        heard.loss(model, batch, 0), plain.loss(model, hushed if probability else batch, 0)
    )
    assert heard.scores(model, batch) == plain.scores(model, hushed)
    assert heard.summarise(heard.scores(model, batch)) == plain.summarise(plain.scores(model, hushed))


def test_an_enhancer_fits_the_network(metadata: Path, tmp_path: Path) -> None:
    save_model(
        create_model("blstm", preset="tiny", num_sources=1, sample_rate=16000), tmp_path / "wide", task="EB"
    )
    save_model(create_model("blstm", preset="tiny"), tmp_path / "two", task="SB")
    for name, got in (("wide", "with 1 at 16000 Hz"), ("two", "with 2 at 8000 Hz")):
        settings = experiment("OSD", metadata, hearing={"enhancer": str(tmp_path / name)})
        with pytest.raises(ConfigError, match=f"one output at 8000 Hz, got .*{name} {got}"):
            run(settings, tmp_path / "run")


def test_the_margin_makes_the_own_class_harder() -> None:
    embeddings, weights, labels = torch.randn(6, 5), torch.randn(4, 5), torch.tensor([0, 1, 2, 3, 0, 1])
    plain = angular_margin_loss(embeddings, weights, labels, scale=7.0, margin=0.0)
    cosines = F.cosine_similarity(embeddings[:, None], weights[None], dim=-1)
    torch.testing.assert_close(plain, F.cross_entropy(7.0 * cosines, labels))
    hard = angular_margin_loss(embeddings, weights, labels, scale=7.0, margin=0.3)
    moved = cosines.clone()
    for row, label in enumerate(labels):
        moved[row, label] = math.cos(math.acos(cosines[row, label].item()) + 0.3)
    torch.testing.assert_close(hard, F.cross_entropy(7.0 * moved, labels))
    same = weights[labels].clone().requires_grad_()
    angular_margin_loss(same, weights, labels, scale=7.0, margin=0.3).backward()
    assert same.grad is not None
    assert same.grad.isfinite().all()  # at an angle of zero


@pytest.mark.parametrize(
    ("task", "changes", "message"),
    [
        ("OSD", {"task": "SB"}, "task SB is not for crnn, a speech activity detector; set task to OSD"),
        ("OSD", {"model": {"model_type": "blstm"}}, "task OSD is not for blstm, a separation model"),
        ("SV", {"training": {"loss": {"name": "snr"}}}, "training.loss compares signals, task SV has none"),
        ("OSD", {"training": {"verification": {}}}, "training.verification is for task SV, not OSD"),
        (
            "SV",
            {"training": {"verification": {"crop_seconds": [1, 2]}}},
            r"crop_seconds: pieces have 0\.6 s .*no batch of 2 s",
        ),
        ("SV", {"training": {"verification": {"crop_seconds": [2, 1]}}}, "crop_seconds: expected two rising"),
        (
            "OSD",
            {"task": "SB", "model": {"model_type": "blstm", "preset": "tiny"}, "training": {"hearing": {}}},
            "training.hearing is for tasks OSD and SV, not SB",
        ),
    ],
)
def test_settings_of_other_tasks_are_refused(
    task: str, changes: dict[str, Any], message: str, metadata: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config({**experiment(task, metadata), **changes})


def test_a_corpus_without_timelines_detects_nothing(metadata: Path, tmp_path: Path) -> None:
    settings = experiment("OSD", metadata)
    settings["data"]["corpus"] = {"corpus_type": "speech_clips", "metadata": str(metadata)}
    with pytest.raises(ValueError, match="speech_clips has no references for task OSD"):
        run(settings, tmp_path / "run")


def test_fine_tuning_goes_on_from_the_weights(metadata: Path, tmp_path: Path) -> None:
    run(experiment("OSD", metadata), tmp_path / "first")
    said: list[str] = []
    run(
        experiment("OSD", metadata, init=str(tmp_path / "first"), max_epochs=1),
        tmp_path / "on",
        say=said.append,
    )
    assert said[0].startswith(f"Starting from {tmp_path / 'first'}")
    settings = experiment("OSD", metadata, init=str(tmp_path / "first"))
    settings["model"] = {**settings["model"], "hidden_size": 7}
    with pytest.raises(ValueError, match=r"training.init: .*model.hidden_size is 7, in the checkpoint 6"):
        run(settings, tmp_path / "other")
