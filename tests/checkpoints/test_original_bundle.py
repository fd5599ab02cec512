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
from polsess.checkpoints.toolkits.original import CONVERTERS
from tests.checkpoints.parity import assert_parity_within_noise
from tests.conftest import GOLDEN

BUNDLES = ["convtasnet", "dprnn", "mossformer2", "sepformer", "tf_mossformer"]


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
