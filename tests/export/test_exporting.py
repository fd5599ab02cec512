"""Exports give what their networks give, carry what a reader must know, and are refused where they do not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from polsess.checkpoints import load_model, save_model
from polsess.export import ExportError, export_model
from polsess.export import exporting as exporting_module
from polsess.export.associative_scan import associative_scan
from polsess.export.checks import compare
from polsess.export.real_arithmetic import real_arithmetic
from polsess.export.tracing import trace
from polsess.models import create_model
from polsess.models.layers import relative_attention
from polsess.models.layers.selective_scan import selective_scan

onnxruntime = pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")


def saved(tmp_path: Path, name: str, **fields: Any) -> Path:
    torch.manual_seed(0)
    model = create_model(name, preset="tiny", **fields)
    save_model(model, tmp_path / name)
    return tmp_path / name


@pytest.mark.parametrize("name", ["blstm", "convtasnet", "dprnn", "mossformer2"])
def test_an_onnx_file_gives_what_the_network_gives_at_other_lengths(tmp_path: Path, name: str) -> None:
    source = saved(tmp_path, name, **({"num_shifts": 2} if name == "blstm" else {}))
    checks = export_model(source, tmp_path / "a.onnx")
    assert checks.largest_error < 1e-5
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx")
    metadata = session.get_modelmeta().custom_metadata_map
    assert (metadata["kind"], metadata["sample_rate"], metadata["num_sources"]) == (
        "separation model",
        "8000",
        "2",
    )
    assert json.loads(metadata["names"]) == ["speaker1", "speaker2"]
    assert len(json.loads(metadata["checks"])["inputs"]) == 8
    stored = [(*each.dims, each.raw_data) for each in onnx.load(tmp_path / "a.onnx").graph.initializer]
    assert len(set(stored)) == len(stored)  # though the LSTM runs once for each shift
    for shape in ((3, 5003), (1, 96_001)):  # longer than all that was compared before it was written
        samples = 0.1 * np.random.default_rng(1).standard_normal(shape).astype(np.float32)
        found = session.run(None, {"samples": samples})[0]
        with torch.inference_mode():
            expected = load_model(source)(torch.from_numpy(samples)).numpy()
        np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("name", ["dprnn", "lstmtasnet"])
def test_a_program_gives_what_the_network_gives_at_other_lengths(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("WARNING", logger="torch.__trace")  # which costs more than the rest
    source = saved(tmp_path, name)
    checks = export_model(source, tmp_path / "a.pt2", to="torch-export")
    assert checks.largest_error < 1e-5
    extra = {"metadata.json": ""}
    program = torch.export.load(tmp_path / "a.pt2", extra_files=extra).module()
    assert json.loads(extra["metadata.json"])["model_type"] == name
    network = load_model(source)
    for batch, length in ((1, 8 * 501), (3, 5003)):
        samples = 0.1 * torch.randn(batch, length)
        with torch.no_grad():
            torch.testing.assert_close(program(samples), network(samples), rtol=0, atol=1e-6)
    with pytest.raises(AssertionError, match=r"samples.size\(\)\[1\] >="):
        program(torch.zeros(1, 1))


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_smaller_files_state_what_they_lose(tmp_path: Path, precision: str) -> None:
    source = saved(tmp_path, "convtasnet", num_filters=256, bottleneck_channels=128, hidden_channels=256)
    export_model(source, tmp_path / "a.onnx")
    checks = export_model(source, tmp_path / "b.onnx", precision=precision, accept=True)  # type: ignore[arg-type]
    assert 20 < checks.fidelity_db < 90
    assert (tmp_path / "b.onnx").stat().st_size < 0.8 * (tmp_path / "a.onnx").stat().st_size


def test_a_file_that_onnxruntime_dies_of_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dying = tmp_path / "python"
    dying.write_text("#!/bin/sh\nkill -SEGV $$\n")
    dying.chmod(0o755)
    source = saved(tmp_path, "convtasnet")
    monkeypatch.setattr("sys.executable", str(dying))
    with pytest.raises(ExportError, match="no ONNX form in float16: onnxruntime crashes on it"):
        export_model(source, tmp_path / "a.onnx", precision="float16", accept=True)
    assert not (tmp_path / "a.onnx").exists()


def test_more_stays_in_float32_where_onnxruntime_dies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, dying = tmp_path / "runs", tmp_path / "python"
    dying.write_text(f"#!/bin/sh\necho run >> {runs}\n[ $(wc -l < {runs}) -gt 1 ] || kill -SEGV $$\n")
    dying.chmod(0o755)
    source = saved(tmp_path, "convtasnet")
    monkeypatch.setattr("sys.executable", str(dying))
    export_model(source, tmp_path / "a.onnx", precision="float16", accept=True)
    assert runs.read_text() == "run\nrun\n"


def test_what_nobody_hears_of_nearly_perfect_estimates_is_no_loss() -> None:
    network = create_model("blstm", preset="tiny", num_sources=1)

    checks = compare(
        network,
        lambda samples: samples[:, None],
        lambda samples: (np.round(samples[:, None] * 2**12) / 2**12).astype(np.float32),
    )
    assert 30 < checks.fidelity_db < 90
    assert checks.si_snr_loss_db == pytest.approx(0, abs=0.01)


def test_an_export_that_differs_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = saved(tmp_path, "convtasnet")
    monkeypatch.setattr(exporting_module, "LARGEST_ERROR", 1e-12)
    with pytest.raises(ExportError, match=r"not written: on .* differs from the network by"):
        export_model(source, tmp_path / "a.onnx")
    monkeypatch.setattr(exporting_module, "LARGEST_LOSS_DB", -1.0)
    with pytest.raises(ExportError, match=r"int8 loses .* or --accept"):
        export_model(source, tmp_path / "a.onnx", precision="int8")
    assert list(tmp_path.glob("*.onnx")) == []
    with pytest.raises(ExportError, match="float32; use --to onnx"):
        export_model(source, tmp_path / "a.pt2", to="torch-export", precision="int8")
    with pytest.raises(ExportError, match="--accept: float32 loses nothing"):
        export_model(source, tmp_path / "a.onnx", accept=True)


@pytest.mark.parametrize("reverse", [False, True])
def test_the_associative_scan_is_the_scan(reverse: bool) -> None:
    torch.manual_seed(0)
    length, channels, states = 83, 6, 4
    u, delta, z = (torch.randn(2, length, channels) for _ in range(3))
    a = -torch.rand(channels, states) - 0.1
    b, c = (torch.randn(2, length, states) for _ in range(2))
    d, bias = torch.randn(channels), torch.randn(channels)
    options: dict[str, Any] = {"delta_softplus": True, "reverse": reverse}
    expected = selective_scan(u, delta, a, b, c, d, z, bias, **options)
    torch.testing.assert_close(associative_scan(u, delta, a, b, c, d, z, bias, **options), expected)


def test_attention_in_a_graph_takes_the_queries_of_longer_sounds_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(relative_attention, "_MAX_SCORES", 40 * 40)
    torch.manual_seed(0)
    attention = relative_attention.RelativeAttention(8, 2, dropout=0.0).eval().requires_grad_(False)
    torch.nn.init.ones_(attention.scale)
    distances = torch.randn(24, 4)

    class Traced(torch.nn.Module):
        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            with real_arithmetic():
                output: torch.Tensor = attention(tokens, distances)
            return output

    axes = {0: "batch", 1: "frames"}
    graph = trace(Traced(), [torch.randn(1, 30, 8)], ["a"], ["b"], {"a": axes, "b": axes})
    tokens = torch.randn(2, 70, 8)
    found = onnxruntime.InferenceSession(graph).run(None, {"a": tokens.numpy()})[0]
    torch.testing.assert_close(torch.from_numpy(found), attention(tokens, distances))


@pytest.mark.parametrize("mask", [None, torch.bool, torch.float32])
def test_attention_in_a_graph_holds_a_share_of_the_scores(mask: torch.dtype | None) -> None:
    class Attention(torch.nn.Module):
        def forward(self, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
            steps = torch.arange(key.shape[2])
            distances = (steps[: query.shape[2], None] - steps).abs()
            allowed = None if mask is None else distances < 3 if mask is torch.bool else -0.1 * distances
            with real_arithmetic():
                return F.scaled_dot_product_attention(query, key, 2 * key, allowed)

    axes = {0: "batch", 2: "frames"}
    graph = trace(
        Attention(),
        [torch.randn(1, 2, 30, 8), torch.randn(1, 2, 30, 8)],
        ["query", "key"],
        ["mixed"],
        {"query": axes, "key": {0: "batch", 2: "keys"}, "mixed": axes},
    )
    softmax = [node for node in onnx.load_from_string(graph).graph.node if node.op_type == "Softmax"]
    assert len(softmax) == 16
    session = onnxruntime.InferenceSession(graph)
    for num_queries, num_keys in ((1, 1), (5, 9), (70, 70)):
        query, key = torch.randn(2, 2, num_queries, 8), torch.randn(2, 2, num_keys, 8)
        found = session.run(None, {"query": query.numpy(), "key": key.numpy()})[0]
        torch.testing.assert_close(torch.from_numpy(found), Attention()(query, key))


@pytest.mark.parametrize("name", ["gtcrn", "tiger", "tfgridnet", "srcorrnet", "mambatasnet", "sudormrf"])
def test_real_arithmetic_changes_nothing(name: str) -> None:
    torch.manual_seed(0)
    model = create_model(name, preset="tiny").eval()
    mixture = 0.1 * torch.randn(2, 4003)
    expected = model(mixture)
    with real_arithmetic():
        found = model(mixture)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert not torch.compiler.is_compiling()
