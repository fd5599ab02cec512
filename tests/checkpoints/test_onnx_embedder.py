"""A speaker embedder in an ONNX file: graphs made here, whole, wrong and hostile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from polsess.audio import resample
from polsess.checkpoints import CheckpointError, load_embedder, save_model
from polsess.cli.main import app
from polsess.models import SpeakerEmbedder, create_model

RATE = 8000


@pytest.fixture
def onnx() -> Any:
    pytest.importorskip("onnxruntime")
    return pytest.importorskip("onnx")


def graph(
    onnx: Any, nodes: list[Any], *, rank: int = 2, rate: str | None = str(RATE), more: int = 0
) -> bytes:
    """A file with the nodes between ``samples`` and ``embedding``."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    inputs = [
        helper.make_tensor_value_info(f"samples{n or ''}", kind, ["B", "T", 1][:rank])
        for n in range(1 + more)
    ]
    outputs = [helper.make_tensor_value_info("embedding", kind, None)]
    model = helper.make_model(
        helper.make_graph(nodes, "g", inputs, outputs),
        ir_version=8,
        opset_imports=[helper.make_opsetid("", 13)],
    )
    if rate is not None:
        helper.set_model_props(model, {"sample_rate": rate})
    content: bytes = model.SerializeToString()
    return content


def statistics(onnx: Any) -> list[Any]:
    """The L1 and L2 norms and the peak, ``[1, 3]``."""
    node = onnx.helper.make_node
    return [
        node("ReduceL1", ["samples"], ["a"], axes=[1], keepdims=1),
        node("ReduceL2", ["samples"], ["b"], axes=[1], keepdims=1),
        node("ReduceMax", ["samples"], ["c"], axes=[1], keepdims=1),
        node("Concat", ["a", "b", "c"], ["embedding"], axis=1),
    ]


def test_the_graph_embeds_batches_at_any_rate(onnx: Any, tmp_path: Path) -> None:
    (tmp_path / "voice.onnx").write_bytes(graph(onnx, statistics(onnx)))
    embedder = load_embedder(tmp_path / "voice.onnx")
    assert isinstance(embedder, SpeakerEmbedder)
    assert (embedder.sample_rate, embedder.dimensions) == (RATE, 3)
    sound = torch.randn(2, 4000)
    raw = torch.stack([sound.abs().sum(-1), sound.norm(dim=-1), sound.amax(-1)], -1)
    torch.testing.assert_close(embedder(sound), raw / raw.norm(dim=-1, keepdim=True))
    doubled = resample(sound, RATE, 2 * RATE)
    torch.testing.assert_close(embedder.embed(doubled, 2 * RATE), embedder(resample(doubled, 2 * RATE, RATE)))
    assert load_embedder(tmp_path / "voice.onnx", sample_rate=16000).sample_rate == 16000


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("location", ["secret.bin", "../secret.bin", "/etc/passwd"])
def test_weights_in_other_files_are_refused(
    location: str, constant: bool, onnx: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "working").mkdir()
    monkeypatch.chdir(tmp_path / "working")
    for folder in (tmp_path, tmp_path / "working"):
        (folder / "secret.bin").write_bytes(b"\0" * 4 * RATE)
    external = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [RATE], b"\0" * 4 * RATE, raw=True)
    external.ClearField("raw_data")
    external.data_location = onnx.TensorProto.EXTERNAL
    entry = external.external_data.add()
    entry.key, entry.value = "location", location
    nodes = [onnx.helper.make_node("Add", ["samples", "w"], ["embedding"])]
    if constant:
        nodes.insert(0, onnx.helper.make_node("Constant", [], ["w"], value=external))
    linked = onnx.load_from_string(graph(onnx, nodes))
    if not constant:
        linked.graph.initializer.append(external)
    (tmp_path / "x.onnx").write_bytes(linked.SerializeToString())
    with pytest.raises(CheckpointError, match="not usable as ONNX"):
        load_embedder(tmp_path / "x.onnx")


def test_a_file_that_does_not_fit_is_one_line(onnx: Any, tmp_path: Path) -> None:
    node = onnx.helper.make_node
    whole, path = graph(onnx, statistics(onnx)), tmp_path / "x.onnx"
    cases = {
        "not usable as ONNX": [whole[:60], b""],
        "its metadata has no sample_rate": [
            graph(onnx, statistics(onnx), rate=None),
            graph(onnx, statistics(onnx), rate="fast"),
        ],
        "sample_rate": [graph(onnx, statistics(onnx), rate="99999999")],
        r"expected one input of float32 samples \[1, T\]": [
            graph(onnx, [node("Identity", ["samples"], ["embedding"])], rank=3),
            graph(onnx, [node("Add", ["samples", "samples1"], ["embedding"])], more=1),
        ],
        r"expected an embedding \[1, D\], got \[1, 8000, 1\]": [
            graph(onnx, [node("Unsqueeze", ["samples", "axis"], ["embedding"]), _axis(onnx)][::-1])
        ],
        "not all finite": [
            graph(
                onnx,
                [
                    node("ReduceL1", ["samples"], ["a"], axes=[1], keepdims=1),
                    node("Sub", ["a", "a"], ["zero"]),
                    node("Div", ["zero", "zero"], ["embedding"]),
                ],
            )
        ],
        r"fails on 8000 samples": [graph(onnx, [node("MatMul", ["samples", "samples"], ["embedding"])])],
    }
    for message, contents in cases.items():
        for content in contents:
            path.write_bytes(content)
            with pytest.raises(CheckpointError, match=message) as caught:
                load_embedder(path)
            assert "\n" not in str(caught.value)


def _axis(onnx: Any) -> Any:
    value = onnx.helper.make_tensor("value", onnx.TensorProto.INT64, [1], [2])
    return onnx.helper.make_node("Constant", [], ["axis"], value=value)


def test_it_is_scored_like_any_other(onnx: Any, tmp_path: Path, tiny_voices: Path) -> None:
    (tmp_path / "voice.onnx").write_bytes(graph(onnx, statistics(onnx)))
    words = ["speakers", "-m", str(tmp_path / "voice.onnx"), "-d", str(tiny_voices)]
    shown = CliRunner().invoke(app, [*words, "corpus.evaluation_examples=6", "corpus.evaluation_seconds=0.5"])
    assert shown.exit_code == 0, shown.output
    assert "embedding" in shown.stdout


@pytest.fixture
def tiny_voices(tmp_path: Path) -> Path:
    from polsess.audio import write_audio

    lines = ["path,speaker,split"]
    for voice in range(3):
        tone = torch.sin(0.1 * (voice + 1) * torch.arange(RATE)) * 0.2
        write_audio(tmp_path / f"v{voice}.wav", tone, RATE)
        lines.append(f"v{voice}.wav,v{voice},test")
    (tmp_path / "metadata.csv").write_text("\n".join(lines))
    return tmp_path / "metadata.csv"


def test_other_sources_are_loaded_as_ever(tmp_path: Path) -> None:
    folder = save_model(create_model("tdnn", kind=SpeakerEmbedder, preset="tiny"), tmp_path / "own")
    assert load_embedder(folder).dimensions == 8
    with pytest.raises(CheckpointError, match="sample_rate is for ONNX files"):
        load_embedder(folder, sample_rate=8000)
    with pytest.raises(CheckpointError, match="is a separation model, not a speaker embedder"):
        load_embedder("default")
    with pytest.raises((CheckpointError, ModuleNotFoundError), match="no such file"):
        load_embedder(tmp_path / "none.onnx")
