"""Bundles of the original project and TF-MossFormer checkpoints through the door: parity, and faults."""

from __future__ import annotations

import json
import shutil
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from polsess.checkpoints import CheckpointError, convert_checkpoint, load_model, read_checkpoint, save_model
from polsess.checkpoints.building import build_model
from polsess.checkpoints.toolkits.clearervoice import convert_mossformer2
from polsess.checkpoints.toolkits.original import CONVERTERS
from polsess.checkpoints.toolkits.original_bundle import save_bundle
from polsess.models import create_model, parse_model_config
from polsess.models.layers.positions import inverse_frequencies
from tests.checkpoints.parity import assert_parity_within_noise
from tests.conftest import GOLDEN

BUNDLES = ["convtasnet", "dprnn", "sepformer", "tf_mossformer"]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(GOLDEN / "bundle_convtasnet", tmp_path / "bundle"))


@pytest.mark.parametrize("name", BUNDLES)
def test_parity_of_bundles(name: str) -> None:
    folder = GOLDEN / f"bundle_{name}"
    arguments = json.loads((folder / "separator.json").read_text())["model_params"]
    assert_parity_within_noise(
        folder,
        CONVERTERS[name],
        arguments,
        load_file(folder / "weights.safetensors"),
        traced=name == "tf_mossformer",
    )


def test_a_mossformer2_is_clearervoices_under_two_wrappers() -> None:
    folder = GOLDEN / "bundle_mossformer2"  # its weights, of 1.3 MB at the least, are drawn here
    arguments = json.loads((folder / "separator.json").read_text())["model_params"]
    shapes = json.loads((folder / "meta.json").read_text())["state_dict_shapes"]
    state = {key: torch.randn(shape) for key, shape in shapes.items()}
    for key in state:
        if key.endswith(("freqs", "inv_freq")):
            state[key] = inverse_frequencies(2 * shapes[key][0])
    inner = {key.removeprefix("model.model."): value for key, value in state.items()}
    assert inner.keys().isdisjoint(state)
    bundle = CONVERTERS["mossformer2"](arguments, state)
    expected = convert_mossformer2({"sample_rate": 8000}, inner)
    assert bundle.model == {**expected.model, "dropout": arguments["attn_dropout"]}
    assert all(torch.equal(value, expected.state[key]) for key, value in bundle.state.items())
    build_model(parse_model_config(bundle.model), bundle.state, "bundle")  # nothing missing or left over


@pytest.mark.parametrize("name", BUNDLES)
def test_a_bundle_written_again_is_the_same(name: str, tmp_path: Path) -> None:
    ours = convert_checkpoint(GOLDEN / f"bundle_{name}", tmp_path / "ours")
    again = convert_checkpoint(ours, tmp_path / "again", to="polsess-bundle")
    assert sorted(path.name for path in again.iterdir()) == ["separator.json", "weights.safetensors"]
    first, second = (
        load_file(folder / "weights.safetensors") for folder in (GOLDEN / f"bundle_{name}", again)
    )
    assert first.keys() == second.keys()
    for key, value in first.items():
        torch.testing.assert_close(second[key], value, rtol=0, atol=1e-6 if key.endswith(".pe") else 0)
    first, second = (
        json.loads((folder / "separator.json").read_text()) for folder in (GOLDEN / f"bundle_{name}", again)
    )
    assert first.keys() == second.keys()
    told = {"exported_on", "exported_with"}
    assert {key: second[key] for key in first.keys() - told} == {
        key: first[key] for key in first.keys() - told
    }


def test_a_bundle_of_mossformer2_has_the_tensors_of_its_class(tmp_path: Path) -> None:
    folder = GOLDEN / "bundle_mossformer2"
    model = create_model({"model_type": "mossformer2", "num_filters": 12, "kernel_size": 8, "num_blocks": 1})
    written = save_bundle(model, tmp_path / "bundle", task="SB")
    tensors = load_file(written / "weights.safetensors")
    shapes = json.loads((folder / "meta.json").read_text())["state_dict_shapes"]
    assert {key: list(value.shape) for key, value in tensors.items()} == shapes
    mixture = torch.randn(1, 500)
    assert torch.equal(load_model(written)(mixture), model.eval()(mixture))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model_type": "blstm"}, "has no blstm; a bundle can hold convtasnet, dprnn"),
        ({"model_type": "convtasnet", "norm": "cgLN"}, "no such option: .*norm_type='cgLN'"),
        (
            {"model_type": "convtasnet", "skip_channels": 8, "mask_activation": "relu"},
            r"has no .*skip_channels=8 \(there 0\)",
        ),
        (
            {"model_type": "mossformer2", "num_filters": 8, "num_blocks": 1, "query_key_dim": 64},
            "query_key_dim=64",
        ),
        ({"model_type": "tfmossformer", "num_sources": 1}, "two outputs or more"),
    ],
)
def test_networks_that_the_original_package_lacks(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    small = {
        "convtasnet": {"num_filters": 8, "bottleneck_channels": 8, "hidden_channels": 8, "num_blocks": 1},
        "blstm": {"hidden_size": 4},
        "tfmossformer": {"num_channels": 8, "attention_size": 8, "num_blocks": 1, "num_heads": 2},
    }
    model = create_model({**small.get(options["model_type"], {}), **options})
    folder = save_model(model, tmp_path / "model")
    with pytest.raises(CheckpointError, match=message):
        convert_checkpoint(folder, tmp_path / "bundle", to="polsess-bundle")
    assert not (tmp_path / "bundle").exists()


def test_what_a_bundle_cannot_hold_is_refused(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no card for a licence"):
        convert_checkpoint(bundle, tmp_path / "x", to="polsess-bundle", half_precision=True)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(CheckpointError, match=r"holds other files \("):
        convert_checkpoint(bundle, tmp_path, to="polsess-bundle")


def test_a_network_trained_here_becomes_a_bundle(tmp_path: Path) -> None:
    source = GOLDEN / "polsess_convtasnet_legacy"
    written = convert_checkpoint(source, tmp_path / "bundle", to="polsess-bundle")
    content = json.loads((written / "separator.json").read_text())
    assert (content["task"], content["source_checkpoint"]["name"]) == ("SB", "polsess_convtasnet_legacy")
    assert len(content["source_checkpoint"]["sha256"]) == 64
    mixture = torch.randn(1, 500)
    assert torch.equal(load_model(written)(mixture), load_model(source)(mixture))


def test_parity_of_a_training_checkpoint() -> None:
    folder = GOLDEN / "tf_mossformer"
    content = torch.load(folder / "tf_mossformer_SB_best.pt", weights_only=True)
    arguments = content["config"]["model"]["tf_mossformer"]
    assert_parity_within_noise(folder, CONVERTERS["tf_mossformer"], arguments, content["model_state_dict"])


def test_a_bundle_says_where_it_comes_from() -> None:
    checkpoint = read_checkpoint(GOLDEN / "bundle_tf_mossformer")
    assert (checkpoint.format, checkpoint.task, checkpoint.config.sample_rate) == (
        "original-bundle",
        "SB",
        16000,
    )
    assert checkpoint.provenance["epoch"] == 44
    assert checkpoint.provenance["source_checkpoint"]["name"] == "tiny_run/tf_mossformer_SB_best.pt"


def test_a_training_checkpoint_keeps_its_rate(tmp_path: Path) -> None:
    content = torch.load(GOLDEN / "tf_mossformer/tf_mossformer_SB_best.pt", weights_only=True)
    content["config"]["data"]["sample_rate"] = 16000
    torch.save(content, tmp_path / "best.pt")
    assert read_checkpoint(tmp_path / "best.pt").config.sample_rate == 16000


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 2}, "format_version is 2; this release reads 1"),
        ({"model_type": "convtasnt"}, "Did you mean 'convtasnet'"),
        ({"model_params": None}, "model_params must be a mapping"),
        ({"sample_rate": ...}, "sample_rate is missing"),
        ({"n_src": 3}, "n_src is 3, model_params say 2"),
        ({"sample_rate": "fast"}, "sample_rate"),
    ],
)
def test_bundles_that_do_not_fit(bundle: Path, changes: dict[str, Any], message: str) -> None:
    path = bundle / "separator.json"
    content = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not ...}))
    with pytest.raises(CheckpointError, match=message):
        load_model(bundle)


def test_a_claim_of_many_blocks_takes_no_memory(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(GOLDEN / "bundle_tf_mossformer", tmp_path / "bundle"))
    content = json.loads((folder / "separator.json").read_text())
    content["model_params"]["num_blocks"] = 20_000
    (folder / "separator.json").write_text(json.dumps(content))
    tracemalloc.start()
    with pytest.raises(CheckpointError, match="the configuration asks for many more tensors"):
        load_model(folder)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40_000_000


def test_a_bundle_needs_both_files(bundle: Path) -> None:
    (bundle / "weights.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"weights.safetensors is missing; a bundle needs both"):
        load_model(bundle)
