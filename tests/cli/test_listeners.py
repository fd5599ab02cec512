"""Networks that listen, named on the command line in place of those of the package."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from polsess.audio import read_audio, write_audio
from polsess.checkpoints import save_model
from polsess.cli.main import app
from polsess.data.mini import MIXTURES
from polsess.evaluation import read_evaluation
from polsess.evaluation.systems import LISTENERS
from polsess.models import ActivityDetector, create_model
from polsess.service.settings import JobOptions, ServiceConfig
from polsess.service.worker import Models
from tests.checkpoints.test_onnx_embedder import graph, statistics
from tests.evaluation.test_conversations import write_conversations
from tests.inference.scripted import RATE


@pytest.fixture(autouse=True)
def _networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A separator of 8 kHz, a detector, and an embedder of 16 kHz in an ONNX file."""
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POLSESS_ALLOCATOR", "default")
    torch.manual_seed(0)
    save_model(create_model("blstm", preset="tiny"), tmp_path / "tiny")
    save_model(create_model("crnn", kind=ActivityDetector, preset="tiny"), tmp_path / "ears")
    Path("voice.onnx").write_bytes(graph(onnx, statistics(onnx), rate="16000"))
    write_audio("meeting.wav", read_audio(MIXTURES / "8k" / "different_sex" / "mix.flac")[0], RATE)


def run(*words: str) -> Result:
    return CliRunner().invoke(app, [*words, "--device", "cpu"])


def test_separate_names_them_in_the_timeline() -> None:
    words = ["--embedder", "voice.onnx", "--detector", "ears", "--enhancer", "none", "--json"]
    result = run("separate", "meeting.wav", "-m", "tiny", *words)
    assert result.exit_code == 0, result.stderr
    settings = json.loads(Path("separated/meeting.json").read_text())["settings"]
    assert [settings[name] for name in LISTENERS] == ["ears", "voice.onnx", "none"]
    assert run("separate", "meeting.wav", "-m", "tiny", "-o", "usual").exit_code == 0
    assert not {*LISTENERS} & json.loads(Path("usual/meeting.json").read_text())["settings"].keys()


def test_extract_needs_the_threshold_of_another_embedder() -> None:
    words = ["extract", "meeting.wav", "-m", "tiny", "--voice"]
    words += [str(MIXTURES / "8k" / "different_sex" / "s1.flac"), "--embedder"]
    refused = run(*words, "voice.onnx")
    assert refused.exit_code == 2
    assert "threshold: 0.55 was measured with the bundled embedder" in refused.stderr
    assert run(*words, "voice.onnx", "--threshold", "-1").exit_code == 0
    assert "threshold" not in run(*words, "speaker-embedder", "-o", "usual").stderr


def test_a_service_has_them_in_its_settings(tmp_path: Path) -> None:
    config = ServiceConfig(
        folder=tmp_path / "jobs", models={"a": "tiny"}, embedder="voice.onnx", device="cpu"
    )
    separator = Models(config).separator(JobOptions())
    timeline = separator.separate(MIXTURES / "8k" / "different_sex" / "s1.flac").timeline
    assert timeline is not None
    assert timeline.settings["embedder"] == "voice.onnx"
    Path("wrong.yaml").write_text("detector: voice.onnx\n")
    refused = CliRunner().invoke(app, ["serve", "--config", "wrong.yaml"])
    assert refused.exit_code != 0
    assert "voice.onnx" in refused.stderr


def test_evaluate_tells_evaluations_with_other_networks_apart() -> None:
    data = write_conversations(Path("data"))
    words = ["evaluate", "-d", str(data), "-m", "tiny", "--metrics", "conversation", "--jobs", "0", "-o"]
    assert run(*words, "usual").exit_code == 0
    assert run(*words, "other", "--embedder", "voice.onnx").exit_code == 0
    assert run(*words, "plain", "--enhancer", "none").exit_code == 0
    found = [read_evaluation(Path(name) / "data" / "tiny") for name in ("usual", "other", "plain")]
    assert found[1].origin["separator"]["embedder"] == str(Path("voice.onnx").absolute())
    assert found[2].origin["separator"]["enhancer"] == "none"
    assert len({each.settings["identity"] for each in found}) == 3


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--embedder", "none.onnx"), "none.onnx: no such file"),
        (("--embedder", "meeting.wav"), "meeting.wav: "),
        (("--embedder", "tiny"), "is a separation model, not a speaker embedder"),
        (("--detector", "tiny"), "is a separation model, not a speech activity detector"),
        (("--enhancer", "tiny"), "enhancer: expected a model with one output, got one with 2"),
        (("--enhancer", "ears"), "is a speech activity detector, not a separation model"),
        (("--embedder", "voice.onnx", "--gate", "never"), "embedder: nobody listens for voices"),
        (("--detector", "ears", "-m", "enhance-one"), "detector: nobody listens for voices"),
    ],
)
def test_what_cannot_be_is_said_before_the_work(words: tuple[str, ...], reason: str) -> None:
    models = () if "-m" in words else ("-m", "tiny")
    result = run("separate", "meeting.wav", *models, *words)
    assert result.exit_code == 2, result.output
    assert reason in result.stderr
    assert not Path("separated").exists()
