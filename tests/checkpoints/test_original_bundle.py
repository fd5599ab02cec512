"""Bundles of the original project and TF-MossFormer checkpoints through the door: parity, and faults."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from polsess.checkpoints import CheckpointError, load_model, read_checkpoint
from polsess.checkpoints.building import build_model
from polsess.checkpoints.toolkits.clearervoice import convert_mossformer2
from polsess.checkpoints.toolkits.original import CONVERTERS
from polsess.models import parse_model_config
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


def test_a_bundle_needs_both_files(bundle: Path) -> None:
    (bundle / "weights.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"weights.safetensors is missing; a bundle needs both"):
        load_model(bundle)
