from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from polsess.cli.main import app
from polsess.cli.terminal import ExitCode
from polsess.evaluation import evaluate, read_evaluation
from polsess.metrics import check_predictor, parse_predictor, predictors, score_utterance
from polsess.metrics.predictors import PredictorConfig, windows
from polsess.schema import ConfigError
from tests.evaluation.corpora import halves, open_folder, write_items

DIGEST = 64 * "0"


class FakeSession:
    """Gives the mean square, the length and the first sample of what it hears."""

    def __init__(self, outputs: int = 3) -> None:
        self.heard: list[np.ndarray] = []
        self.outputs = outputs

    def get_inputs(self) -> list[Any]:
        return [SimpleNamespace(name="samples", type="tensor(float)", shape=[1, "T"])]

    def run(self, _: None, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        samples = feeds["samples"]
        assert samples.dtype == np.float32
        assert samples.ndim == 2
        self.heard.append(samples[0])
        values = [np.mean(samples**2), samples.shape[1], samples[0, 0]]
        return [np.array([values[: self.outputs]], dtype=np.float32)]


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> FakeSession:
    fake = FakeSession()
    monkeypatch.setattr(predictors, "open_session", lambda _: fake)
    return fake


def config(**changes: Any) -> PredictorConfig:
    data = {
        "name": "mine",
        "path": "x.onnx",
        "sha256": DIGEST,
        "sample_rate": 8000,
        "outputs": ["a", "b", "c"],
    }
    return parse_predictor(data | changes, "x.yaml")


def test_the_whole_sound_at_the_level_of_its_reference(session: FakeSession) -> None:
    references = 0.1 * torch.randn(2, 2400)
    estimates = references.flip(0) * 7 + 0.01 * torch.randn(2, 2400)
    scores = score_utterance(estimates, references, references.sum(0), 8000, ["si_snr"], [config()])
    assert scores.values["mine_b"] == (2400, 2400)
    powers = references.square().mean(-1)
    np.testing.assert_allclose(scores.values["mine_a"], powers, rtol=1e-4)
    np.testing.assert_allclose(session.heard[0], references[0], atol=0.01)  # by the references' order
    assert scores.seconds["mine"] >= 0
    assert not scores.reasons


def test_another_rate_is_resampled(session: FakeSession) -> None:
    signal = 0.1 * torch.randn(1, 2400)
    score_utterance(signal, signal, signal[0], 8000, ["si_snr"], [config(sample_rate=16000)])
    assert len(session.heard[0]) == 4800


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(2.0, 7), (3.0, 3), (9.01, 1), (10.5, 1), (11.0, 2), (12.99, 3), (13.0, 4)],
)
def test_windows_of_dnsmos(seconds: float, expected: int) -> None:
    dnsmos = parse_predictor({"protocol": "dnsmos", "path": "x", "sha256": DIGEST}, "x")
    samples = np.arange(round(seconds * 16000), dtype=np.float32)
    cut = windows(samples, dnsmos)
    assert [len(each) for each in cut] == [144160] * expected
    if seconds > 9:
        assert [each[0] for each in cut] == [16000 * index for index in range(expected)]
    else:
        assert cut[0][len(samples)] == 0  # repeated from its begin


def test_dnsmos_maps_the_means(monkeypatch: pytest.MonkeyPatch) -> None:
    class Raw(FakeSession):
        def run(self, *_: Any) -> list[np.ndarray]:
            return [np.array([[3.0, 2.0, 4.0]], dtype=np.float32)]

    monkeypatch.setattr(predictors, "open_session", lambda _: Raw())
    dnsmos = parse_predictor({"protocol": "dnsmos", "path": "x", "sha256": DIGEST}, "x")
    signal = 0.1 * torch.randn(1, 2400)
    scores = score_utterance(signal, signal, signal[0], 8000, ["si_snr"], [dnsmos]).values
    assert scores["dnsmos_sig"][0] == pytest.approx(-0.08397278 * 9 + 1.22083953 * 3 + 0.0052439, abs=1e-6)
    assert scores["dnsmos_bak"][0] == pytest.approx(-0.13166888 * 4 + 1.60915514 * 2 - 0.39604546, abs=1e-6)
    assert scores["dnsmos_ovrl"][0] == pytest.approx(-0.06766283 * 16 + 1.11546468 * 4 + 0.04602535, abs=1e-6)


def test_a_missing_score_has_a_reason(session: FakeSession, monkeypatch: pytest.MonkeyPatch) -> None:
    signal = 0.1 * torch.randn(1, 2400)
    silent = torch.zeros(1, 2400)
    assert score_utterance(silent, signal, signal[0], 8000, ["si_snr"], [config()]).reasons["mine_a"] == (
        "silent estimate"
    )
    two = config(outputs=["a", "b"])
    found = score_utterance(signal, signal, signal[0], 8000, ["si_snr"], [two])
    assert found.reasons["mine_a"] == "mine: gives 3 scores, not 2"
    assert np.isnan(found.mean("mine_b"))

    def fail(*_: Any) -> None:
        raise RuntimeError("shape\nmore")

    monkeypatch.setattr(session, "run", fail)
    found = score_utterance(signal, signal, signal[0], 8000, ["si_snr"], [config()])
    assert found.reasons["mine_c"] == "mine: shape"


@pytest.mark.usefixtures("session")
def test_results_come_back_from_the_table(tmp_path: Path) -> None:
    corpus = open_folder(write_items(tmp_path / "data"))
    first = evaluate(halves(), corpus, metrics=["si_snr"], predictors=[config()], folder=tmp_path / "out")
    assert first.columns[-3:] == ("mine_a", "mine_b", "mine_c")
    again = read_evaluation(tmp_path / "out")
    assert again.columns == first.columns
    assert again.rows[1].scores.values["mine_b"] == (2007, 2007)
    assert again.rows[0].metadata == {}
    assert again.summary("mine_a").count == 4
    with pytest.raises(FileExistsError, match="different: predictors"):
        evaluate(halves(), corpus, metrics=["si_snr"], predictors=[config(name="x")], folder=tmp_path / "out")
    for clash in ([config(), config()], [config(name="si", outputs=["snr"])]):
        with pytest.raises(ConfigError, match="two scores would be called"):
            evaluate(halves(), corpus, metrics=["si_snr"], predictors=clash)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sha256": "abc"}, "sha256"),
        ({"name": "Mine X"}, "name"),
        ({"protocol": "dnsmoss"}, "Did you mean 'dnsmos'"),
        ({"polynomials": [[1.0]]}, "expected 3, one per output"),
        ({"outputs": []}, "outputs"),
        ({"outputs": ["a", "b_1", "c"]}, "outputs"),
        ({"torchscript": True}, "unknown key"),
    ],
)
def test_descriptions_are_checked(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config(**changes)


def test_a_file_of_another_digest_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    with pytest.raises(FileNotFoundError, match="no such file"):
        check_predictor(config(path=str(path)))
    path.write_bytes(b"not the file that was meant")
    with pytest.raises(ConfigError, match=f"its SHA-256 is .*, its description says {DIGEST}"):
        check_predictor(config(path=str(path)))


def test_an_onnx_file(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    nodes = [
        helper.make_node("Mul", ["samples", "samples"], ["power"]),
        helper.make_node("ReduceMean", ["power"], ["scores"], axes=[1], keepdims=1),
    ]
    takes = [helper.make_tensor_value_info("samples", kind, [1, None])]
    gives = [helper.make_tensor_value_info("scores", kind, [1, 1])]
    graph = helper.make_graph(nodes, "power", takes, gives)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    content = model.SerializeToString()
    (tmp_path / "power.onnx").write_bytes(content)
    text = "name: power\npath: power.onnx\nsample_rate: 8000\noutputs: [level]\nsha256: "
    (tmp_path / "power.yaml").write_text(f"{text}'{hashlib.sha256(content).hexdigest()}'\n")
    items = write_items(tmp_path / "data", num_items=2)
    for item in items.iterdir():
        (item / "copy").mkdir()
        for name in ("s1.wav", "s2.wav"):
            (item / "copy" / name).write_bytes((item / name).read_bytes())
    words = ["evaluate", "-d", items, "--estimates", items, "--predictor", tmp_path / "power.yaml"]
    done = CliRunner().invoke(app, [*map(str, words), "--metrics", "si_snr", "-o", str(tmp_path / "out")])
    assert done.exit_code == ExitCode.DONE, done.stderr
    assert "| power level " in done.stdout
    found = read_evaluation(tmp_path / "out" / "data" / "copy")
    assert found.summary("power_level").mean == pytest.approx(0.01, rel=0.1)
    for damaged, message in ((b"GIF89a", "not usable as ONNX"), (b"", "not usable as ONNX")):
        (tmp_path / "bad.onnx").write_bytes(damaged)
        with pytest.raises(ConfigError, match=message):
            check_predictor(
                config(path=str(tmp_path / "bad.onnx"), sha256=hashlib.sha256(damaged).hexdigest())
            )
