"""TIGER's hub folder through the door: parity, and files that do not fit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from polsess.checkpoints import CheckpointError, load_model, read_checkpoint
from polsess.checkpoints.toolkits.tiger import convert_tiger
from tests.checkpoints.parity import assert_parity_within_noise
from tests.conftest import GOLDEN

FOLDER = GOLDEN / "tiger"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(FOLDER, tmp_path / "published"))


@pytest.mark.parametrize("name", ["tiger", "tiger_3src"])
def test_parity(name: str) -> None:
    arguments = json.loads((GOLDEN / name / "config.json").read_text())
    state = load_file(GOLDEN / name / "model.safetensors")
    assert_parity_within_noise(GOLDEN / name, convert_tiger, arguments, state)


def test_a_pickle_of_the_same_tensors_is_the_same_model(folder: Path) -> None:
    checkpoint = read_checkpoint(folder)
    assert checkpoint.format == "tiger"
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    pickled = read_checkpoint(folder / "pytorch_model.bin")
    assert pickled.config == checkpoint.config
    assert all(torch.equal(value, checkpoint.state[key]) for key, value in pickled.state.items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"upsampling_depth": 3}, "is not part of this architecture|unknown"),
        ({"dropout": 0.1}, "arguments that are not read: dropout"),
        ({"sample_rate": 8000}, "the bands reach 8000 Hz; expected at least 16000"),
        ({"win": 512}, "a band without a bin at 16000 Hz; expected at least 638"),
        ({"num_sources": 3}, "num_features=8 must be a multiple of num_sources=3"),
    ],
)
def test_arguments_that_do_not_fit(folder: Path, changes: dict[str, Any], message: str) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(CheckpointError, match=message) as error:
        load_model(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "key", ["BN.3.0.weight", "separator.freq_path.1.Keys.1.conv.weight", "mask.66.1.bias"]
)
def test_a_missing_tensor_is_named(folder: Path, key: str) -> None:
    state = load_file(folder / "model.safetensors")
    del state[key]
    save_file(state, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="is missing") as error:
        load_model(folder)
    assert key in str(error.value)
