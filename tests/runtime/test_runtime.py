"""The runtime separates as torch does, without torch, and refuses files that are not its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from polsess.audio import read_audio, write_audio
from polsess.checkpoints import save_model
from polsess.cli.main import app
from polsess.config_error import ConfigError
from polsess.data.mini import MIXTURES
from polsess.evaluation.systems import LISTENERS
from polsess.export import export_model
from polsess.inference import Separator as TorchSeparator
from polsess.inference.onnx_networks import OnnxDetector
from polsess.models import create_model
from polsess.runtime import Separator
from tests.checkpoints.test_onnx_embedder import graph, statistics

onnxruntime = pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
SCRIPT = """
import sys
for name in "torch pydantic scipy yaml typer rich safetensors huggingface_hub onnx matplotlib".split():
    sys.modules[name] = None
from polsess.runtime import Separator
separation = Separator.from_onnx(sys.argv[1]).separate(sys.argv[2])
print(separation.timeline is not None, len(separation.save(sys.argv[3])))
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("onnx")
    for name in ("default", *LISTENERS.values()):
        export_model(name, folder / f"{name}.onnx")
    return folder


@pytest.fixture(scope="module")
def mixture() -> Path:
    return MIXTURES / "8k" / "different_sex" / "mix.flac"


@pytest.mark.parametrize("gate", ["never", "always"])
def test_it_separates_as_torch_does(files: Path, gate: str) -> None:
    names = ("different_sex", "same_sex")
    sound = torch.cat([read_audio(MIXTURES / "8k" / name / "mix.flac")[0] for name in names], 1)
    options: dict[str, Any] = {"gate": gate, "segment_seconds": 3.0}
    expected = TorchSeparator.from_pretrained(device="cpu", precision="float32", **options).separate(
        sound[0], 8000
    )
    found = Separator.from_onnx(files / "default.onnx", **options).separate(sound[0].numpy(), 8000)
    assert isinstance(found.sources, np.ndarray)
    assert found.names == expected.names
    np.testing.assert_allclose(found.sources, expected.sources.numpy(), atol=1e-4)
    assert (found.timeline is None) == (gate == "never")
    if found.timeline and expected.timeline:
        assert found.timeline.turns == expected.timeline.turns
        assert "enhancer" not in found.timeline.settings


def test_without_the_enhancer_the_recording_is_heard_as_it_is(
    files: Path, mixture: Path, tmp_path: Path
) -> None:
    for name in ("default", "activity-detector", "speaker-embedder"):
        shutil.copy(files / f"{name}.onnx", tmp_path)
    for folder, enhancer in ((tmp_path, None), (files, "none")):
        separator = Separator.from_onnx(folder / "default.onnx", gate="always", enhancer=enhancer)
        timeline = separator.separate(mixture).timeline
        assert timeline is not None
        assert timeline.settings["enhancer"] == "none"
        assert len(separator.files) == 3
    with pytest.raises(ValueError, match="enhancer: expected a model with one output, got one with 2"):
        Separator.from_onnx(files / "default.onnx", enhancer=files / "default.onnx")


def test_neither_torch_nor_anything_else_is_imported(files: Path, mixture: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, str(files / "default.onnx"), str(mixture), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout.split() == ["True", "2"], done.stderr
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".rttm", ".wav", ".wav"]


def test_short_sounds_and_silence(files: Path) -> None:
    separator = Separator.from_onnx(files / "default.onnx", gate="never")
    assert not separator.separate(np.zeros(5, np.float32), 16000).sources.any()
    assert separator.separate(np.array([0.1, -0.1], np.float32), 44100).sources.shape == (2, 2)


def test_files_that_cannot_be_used(files: Path, tmp_path: Path) -> None:
    content = (files / "default.onnx").read_bytes()
    (tmp_path / "cut.onnx").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.onnx").write_text("no network")
    model = onnx.load_from_string(content)
    for name, metadata, opset in (
        ("foreign", {}, 18),
        ("rate", {"polsess_format": "1", "kind": "separation model", "sample_rate": "-8000"}, 18),
        ("opset", {"polsess_format": "1", "kind": "separation model"}, 999),
    ):
        del model.metadata_props[:]
        onnx.helper.set_model_props(model, metadata)
        model.opset_import[0].version = opset
        (tmp_path / f"{name}.onnx").write_bytes(model.SerializeToString())
    causes = {
        "cut": "not usable as ONNX",
        "text": "not usable as ONNX",
        "foreign": "was not written by polsess export",
        "rate": "sample_rate in its metadata is '-8000'",
        "opset": r"not usable as ONNX: [^\[/]*[Oo]pset",
    }
    for name, cause in causes.items():
        with pytest.raises(ConfigError, match=cause) as caught:
            Separator.from_onnx(tmp_path / f"{name}.onnx")
        assert str(caught.value).startswith(str(tmp_path / f"{name}.onnx"))
    with pytest.raises(ConfigError, match="holds a speaker embedder, expected a separation model"):
        Separator.from_onnx(files / "speaker-embedder.onnx")
    with pytest.raises(FileNotFoundError):
        Separator.from_onnx(tmp_path / "missing.onnx")
    (tmp_path / "alone.onnx").write_bytes(content)
    with pytest.raises(ValueError, match=r"needs the networks that listen; put activity-detector.onnx"):
        Separator.from_onnx(tmp_path / "alone.onnx", gate="always")


def test_the_command_takes_an_onnx_file(files: Path, mixture: Path, tmp_path: Path) -> None:
    write_audio(tmp_path / "talk.wav", read_audio(mixture)[0], 8000)
    command = [sys.executable, "-m", "polsess", "separate", "talk.wav", "-m", str(files / "default.onnx")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "separated" / "talk_speaker2.wav").exists()


def test_a_file_that_gives_something_else_leaves_nothing(files: Path, mixture: Path, tmp_path: Path) -> None:
    model = onnx.load(files / "default.onnx")
    for entry in model.metadata_props:
        entry.value = "3" if entry.key == "num_sources" else entry.value
    onnx.save(model, tmp_path / "three.onnx")
    out = tmp_path / "new" / "separated"
    words = ["separate", str(mixture), "-m", str(tmp_path / "three.onnx"), "-o", str(out)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 1
    assert "three.onnx: gives [1, 2, " in result.stderr
    assert not out.parent.exists()
    facts = {"polsess_format": "1", "kind": "speech activity detector", "hop_seconds": "0.02"}
    onnx.helper.set_model_props(model, facts | {"sample_rate": "8000"})
    onnx.save(model, tmp_path / "detector.onnx")
    detector = OnnxDetector(tmp_path / "detector.onnx")
    with pytest.raises(ConfigError, match=r"detector.onnx: gives \[1, 2, 8000\], expected probabilities"):
        detector.detect(np.zeros((1, 8000), np.float32))


def test_streams_and_whole_sounds_are_not_taken_for_each_other(tmp_path: Path, mixture: Path) -> None:
    torch.manual_seed(0)
    save_model(create_model("gtcrn", preset="tiny"), tmp_path / "gtcrn")
    export_model(tmp_path / "gtcrn", tmp_path / "stream.onnx", to="onnx-stream")
    with pytest.raises(ConfigError, match=r"takes a sound push by push; .* run `polsess stream`"):
        Separator.from_onnx(tmp_path / "stream.onnx")
    for name, expected in (("stream.onnx", "ONNX file, which `polsess separate`"), ("a.pt2", "torch.export")):
        (tmp_path / "a.pt2").write_bytes(b"PK")
        words = ["stream", str(mixture), "-m", str(tmp_path / name), "-o", str(tmp_path / "o")]
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 3
        assert expected in result.stderr
        assert not (tmp_path / "o").exists()


def test_an_embedder_of_another_make_and_rate_listens(files: Path, mixture: Path, tmp_path: Path) -> None:
    (tmp_path / "voice.onnx").write_bytes(graph(onnx, statistics(onnx), rate="16000"))
    separator = Separator.from_onnx(files / "default.onnx", embedder=tmp_path / "voice.onnx", gate="always")
    timeline = separator.separate(mixture).timeline
    assert timeline is not None
    assert timeline.settings["embedder"] == "voice.onnx"
    with pytest.raises(ValueError, match="embedder: nobody listens for voices"):
        Separator.from_onnx(files / "default.onnx", embedder=tmp_path / "voice.onnx", gate="never")
