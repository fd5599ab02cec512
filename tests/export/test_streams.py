"""Exported streams go on from the states that they gave, as the networks do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from polsess.checkpoints import load_model, save_model
from polsess.config_error import ConfigError
from polsess.export import ExportError, export_model
from polsess.models import create_model
from polsess.runtime import Separator

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")
pytest.importorskip("onnxscript")

CAUSAL: dict[str, dict[str, Any]] = {
    "convtasnet": {"causal": True, "norm": "cLN"},
    "dprnn": {"inter_bidirectional": False, "norm": "cgLN"},
    "lstmtasnet": {"bidirectional": False},
    "skim": {"bidirectional": False, "norm": "cLN"},
    "resepformer": {"causal_attention": True, "norm": "cLN", "memory": "none"},
}


def saved(folder: Path, name: str, **fields: Any) -> Path:
    torch.manual_seed(0)
    return save_model(create_model(name, preset="tiny", **fields), folder / name)


@pytest.mark.parametrize("name", CAUSAL)
def test_a_stream_is_that_of_the_network_to_its_end(tmp_path: Path, name: str) -> None:
    source = saved(tmp_path, name, **CAUSAL[name])
    checks = export_model(source, tmp_path / "a.onnx", to="onnx-stream")
    assert checks.largest_error < 1e-6
    assert len(checks.of) == 8
    metadata = onnxruntime.InferenceSession(tmp_path / "a.onnx").get_modelmeta().custom_metadata_map
    assert metadata["kind"] == "stream of a separation model"
    with pytest.raises(ConfigError, match="takes a sound push by push; export with --to onnx"):
        Separator.from_onnx(tmp_path / "a.onnx")


def test_a_reader_needs_the_file_alone(tmp_path: Path) -> None:
    """As docs/export.md says: the first samples go into one state, everything else begins by itself."""
    source = saved(tmp_path, "gtcrn", sample_rate=8000)
    export_model(source, tmp_path / "a.onnx", to="onnx-stream")
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx")
    facts = session.get_modelmeta().custom_metadata_map
    samples = 0.1 * np.random.default_rng(0).standard_normal(4 * 2048).astype(np.float32)
    mirrored, lead = int(facts["first_mirrored"]), int(facts["first_samples"])
    past = np.concatenate([samples[1 : mirrored + 1][::-1], samples[:lead]])
    state, parts = {facts["first_state"]: past[None]}, []
    for block in samples[lead:].reshape(-1, 2048):
        estimates, *following = session.run(None, {"samples": block[None], **state})
        state = {
            output.name.removeprefix("next."): value
            for output, value in zip(session.get_outputs()[1:], following, strict=True)
        }
        parts.append(estimates)
    assert {name: list(value.shape) for name, value in state.items()} == json.loads(facts["states"])
    found = np.concatenate(parts, -1)[0, :, int(facts["stream_delay"]) :]
    with torch.inference_mode():
        whole = load_model(source)(torch.from_numpy(samples)[None]).numpy()
    np.testing.assert_allclose(found, whole[:, : found.shape[-1]], atol=1e-5)


def test_what_does_not_stream_is_refused(tmp_path: Path) -> None:
    source = saved(tmp_path, "convtasnet")
    with pytest.raises(ExportError, match=r"cannot stream: .*causal: true"):
        export_model(source, tmp_path / "a.onnx", to="onnx-stream")
    with pytest.raises(ExportError, match="a speech activity detector does not stream"):
        export_model("activity-detector", tmp_path / "a.onnx", to="onnx-stream")
    with pytest.raises(ExportError, match="--precision int8: onnx-stream is float32; use --to onnx"):
        export_model(source, tmp_path / "a.onnx", to="onnx-stream", precision="int8")
    causal = saved(tmp_path, "lstmtasnet", bidirectional=False)
    with pytest.raises(ExportError, match="loader for gtcrn with one source only"):
        export_model(causal, tmp_path / "a.onnx", to="sherpa-onnx")
    assert not (tmp_path / "a.onnx").exists()


def test_the_file_for_sherpa_onnx_has_its_layout(tmp_path: Path) -> None:
    checks = export_model(saved(tmp_path, "gtcrn"), tmp_path / "a.onnx", to="sherpa-onnx")
    assert checks.largest_error < 5e-6
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx")
    shapes = {each.name: each.shape for each in (*session.get_inputs(), *session.get_outputs())}
    conv, gates, inter = [2, 1, 16, 16, 33], [2, 3, 1, 1, 16], [2, 1, 33, 16]
    caches = {"conv_cache": conv, "tra_cache": gates, "inter_cache": inter}
    after = {f"{name}_out": shape for name, shape in caches.items()}
    assert shapes == {"mix": [1, 257, 1, 2], "enh": [1, 257, 1, 2], **caches, **after}
    metadata = session.get_modelmeta().custom_metadata_map
    assert metadata["conv_cache_shape"] == "2,1,16,16,33"
    assert (metadata["model_type"], metadata["window_type"], metadata["version"]) == (
        "gtcrn",
        "hann_sqrt",
        "1",
    )


def test_sherpa_onnx_enhances_as_the_network_does(tmp_path: Path) -> None:
    sherpa: Any = pytest.importorskip("sherpa_onnx")
    source = saved(tmp_path, "gtcrn")
    export_model(source, tmp_path / "a.onnx", to="sherpa-onnx")
    gtcrn = sherpa.OfflineSpeechDenoiserGtcrnModelConfig(model=str(tmp_path / "a.onnx"))
    model = sherpa.OfflineSpeechDenoiserModelConfig(gtcrn=gtcrn, num_threads=1)
    samples = 0.1 * np.random.default_rng(0).standard_normal(16000).astype(np.float32)
    found = sherpa.OfflineSpeechDenoiser(sherpa.OfflineSpeechDenoiserConfig(model=model)).run(samples, 16000)
    with torch.inference_mode():
        expected = load_model(source)(torch.from_numpy(samples)[None])[0].numpy()
    length = len(found.samples)
    assert found.sample_rate == 16000
    assert length > 15500
    np.testing.assert_allclose(found.samples, expected[:length], atol=1e-4)
