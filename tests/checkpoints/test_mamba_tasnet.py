"""Mamba-TasNet and DPMamba from three files without YAML: parity, and what does not fit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from polsess.checkpoints import CheckpointError, load_model, read_checkpoint
from polsess.checkpoints.toolkits.mamba_tasnet import PARTS, convert_dpmamba, convert_mamba_tasnet
from tests.checkpoints.parity import _origins
from tests.checkpoints.test_look2hear import assert_gradients
from tests.conftest import GOLDEN
from tests.models.noise_floor import assert_parity

UNTOLD: dict[str, dict[str, Any] | None] = {
    "mambatasnet": None,
    "dpmamba": {"chunk_size": 20, "skip_around_intra": True},
}
CONVERTERS = {"mambatasnet": convert_mamba_tasnet, "dpmamba": convert_dpmamba}


@pytest.fixture(params=UNTOLD)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(GOLDEN / request.param, tmp_path / request.param))


def state_of(folder: Path) -> dict[str, Tensor]:
    parts = {part: torch.load(folder / f"{part}.ckpt", weights_only=True) for part in PARTS}
    return {f"{part}.{key}": value for part, state in parts.items() for key, value in state.items()}


@pytest.mark.parametrize("name", UNTOLD)
def test_parity(name: str) -> None:
    model = load_model(GOLDEN / name, config=UNTOLD[name])
    assert model.model_type == name
    assert_parity(model, GOLDEN / name, {}, relative=1e-8)


@pytest.mark.parametrize("name", UNTOLD)
def test_parity_of_the_gradient_of_every_parameter(name: str) -> None:
    case = json.loads((GOLDEN / name / "meta.json").read_text())["cases"][0]
    origins = _origins(CONVERTERS[name], {}, state_of(GOLDEN / name))
    assert_gradients(GOLDEN / name, case, origins, config=UNTOLD[name])


@pytest.mark.parametrize("name", UNTOLD)
def test_what_no_tensor_shows_is_as_published(name: str) -> None:
    config = read_checkpoint(GOLDEN / name).config.model_dump()
    assert config["sample_rate"] == 8000
    assert config.get("chunk_size", 250) == 250
    assert not config.get("skip_around_intra", False)
    assert read_checkpoint(GOLDEN / name, config={"sample_rate": 16000}).config.sample_rate == 16000


def test_what_a_tensor_shows_is_not_told_again(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="the tensors tell all but"):
        load_model(folder, config={"num_filters": 3})


def test_one_of_the_files_may_be_named(folder: Path) -> None:
    assert load_model(folder / "masknet.ckpt").model_type == folder.name


@pytest.mark.parametrize(
    ("ending", "value", "message"),
    [
        ("layers.0.mixer.A_log", None, "A_log.*missing"),
        ("layers.0.mixer.dt_proj_b.bias", None, "dt_proj.bias is missing"),
        ("layers.0.mixer.surprise", torch.zeros(2), "surprise' is not part of this architecture"),
        ("layers.0.mixer.D_b", torch.zeros(3), r"D is \[3\], the configuration asks for"),
        ("layers.0.mixer.A_log", torch.zeros(3), "too few dimensions"),
    ],
)
def test_tensors_that_do_not_fit(folder: Path, ending: str, value: Tensor | None, message: str) -> None:
    path = folder / "masknet.ckpt"
    state = torch.load(path, weights_only=True)
    first = "mamba_net" if folder.name == "mambatasnet" else "dual_mdl.0.intra_mdl"
    if value is None:
        del state[f"{first}.{ending}"]
    else:
        state[f"{first}.{ending}"] = value
    torch.save(state, path)
    with pytest.raises(CheckpointError, match=message):
        load_model(folder)


def test_a_missing_file_is_not_guessed(folder: Path) -> None:
    (folder / "decoder.ckpt").unlink()
    with pytest.raises(CheckpointError, match="not a checkpoint of a known format"):
        load_model(folder)
