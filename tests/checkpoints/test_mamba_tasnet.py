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
from polsess.checkpoints.toolkits.mamba_tasnet import convert_dpmamba, convert_mamba_tasnet
from polsess.checkpoints.toolkits.speechbrain.reader import PARTS
from polsess.models import create_model
from polsess.models.dpmamba import DPMamba
from tests.checkpoints.parity import _origins
from tests.checkpoints.test_look2hear import assert_gradients
from tests.conftest import GOLDEN
from tests.models.noise_floor import assert_parity

NOT_IN_TENSORS: dict[str, dict[str, Any] | None] = {
    "mambatasnet": None,
    "dpmamba": {"chunk_size": 20, "skip_around_intra": True},
}
CONVERTERS = {"mambatasnet": convert_mamba_tasnet, "dpmamba": convert_dpmamba}


@pytest.fixture(params=NOT_IN_TENSORS)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(GOLDEN / request.param, tmp_path / request.param))


def state_of(folder: Path) -> dict[str, Tensor]:
    parts = {part: torch.load(folder / f"{part}.ckpt", weights_only=True) for part in PARTS}
    return {f"{part}.{key}": value for part, state in parts.items() for key, value in state.items()}


@pytest.mark.parametrize("name", NOT_IN_TENSORS)
def test_parity(name: str) -> None:
    model = load_model(GOLDEN / name, config=NOT_IN_TENSORS[name])
    assert model.model_type == name
    assert_parity(model, GOLDEN / name, {}, relative=1e-8)


@pytest.mark.parametrize("name", NOT_IN_TENSORS)
def test_parity_of_the_gradient_of_every_parameter(name: str) -> None:
    case = json.loads((GOLDEN / name / "meta.json").read_text())["cases"][0]
    origins = _origins(CONVERTERS[name], {}, state_of(GOLDEN / name))
    assert_gradients(GOLDEN / name, case, origins, config=NOT_IN_TENSORS[name])


STACK = """!new:modules.mamba_blocks.MambaBlocksSequential
  n_mamba: 1
  bidirectional: true
  d_model: 12
  rms_norm: true
  use_simple_block: false
  residual_in_fp32: false
"""
DPMAMBA = f"""
Encoder: &id004 !new:speechbrain.lobes.models.dual_path.Encoder
  kernel_size: 8
  out_channels: 12
Mambaintra: &id002 {STACK}
MaskNet: &id006 !new:speechbrain.lobes.models.dual_path.Dual_Path_Model
  num_spks: 2
  in_channels: 12
  out_channels: 12
  num_layers: 2
  K: 20
  intra_model: *id002
  inter_model: *id002
  norm: ln
  linear_layer_after_inter_intra: false
  skip_around_intra: true
modules:
  encoder: *id004
  decoder: !new:speechbrain.lobes.models.dual_path.Decoder
  masknet: *id006
data_folder: !PLACEHOLDER
sample_rate: 8000
"""
MAMBATASNET = f"""
MaskNet: {STACK.replace("blocks.MambaBlocksSequential", "masknet.MaskNet")}
  enc_dim: 12
modules:
  encoder: !new:speechbrain.lobes.models.dual_path.Encoder
  decoder: !new:speechbrain.lobes.models.dual_path.Decoder
  masknet: !ref <MaskNet>
sample_rate: 16000
"""


def run_of(folder: Path, text: str) -> Path:
    """A checkpoint within a run, as the authors' trainer lays it out."""
    checkpoint = folder / "run" / "save" / "CKPT+2024-03-18+10-00-00+00"
    shutil.copytree(GOLDEN / ("dpmamba" if "Dual_Path" in text else "mambatasnet"), checkpoint)
    (folder / "run" / "hyperparams.yaml").write_text(text)
    return checkpoint


def test_the_yaml_of_the_run_gives_what_no_tensor_shows(tmp_path: Path) -> None:
    checkpoint = run_of(tmp_path, DPMAMBA)
    assert_parity(load_model(checkpoint), GOLDEN / "dpmamba", {}, relative=1e-8)
    (tmp_path / "run" / "hyperparams.yaml").write_text(DPMAMBA.replace("intra: true", "intra: false"))
    assert not read_checkpoint(checkpoint).config.model_dump()["skip_around_intra"]
    with pytest.raises(CheckpointError, match="holds the configuration; leave config out"):
        load_model(checkpoint, config={"skip_around_intra": True})
    assert read_checkpoint(run_of(tmp_path / "other", MAMBATASNET)).config.sample_rate == 16000


@pytest.mark.parametrize(
    ("text", "change", "to", "message"),
    [
        (DPMAMBA, "bidirectional: true", "bidirectional: false", "bidirectional=False is not read"),
        (DPMAMBA, "norm: ln", "norm: cln", "norm='cln' is not read"),
        (DPMAMBA, "K: 20", "K: 20\n  skip_n_block: 2", "arguments that are not read: skip_n_block=2"),
        (MAMBATASNET, "enc_dim: 12", "causal: true", "causal=True is not read"),
    ],
)
def test_a_run_of_another_kind_is_refused(
    tmp_path: Path, text: str, change: str, to: str, message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        load_model(run_of(tmp_path, text.replace(change, to)))


def test_without_the_yaml_what_published_files_share_is_assumed_and_the_rest_asked_for() -> None:
    with pytest.raises(CheckpointError, match=r"pass config={'skip_around_intra': True} for the published"):
        load_model(GOLDEN / "dpmamba")
    config = read_checkpoint(GOLDEN / "dpmamba", config={"skip_around_intra": False}).config.model_dump()
    assert (config["sample_rate"], config["chunk_size"], config["skip_around_intra"]) == (8000, 250, False)
    assert read_checkpoint(GOLDEN / "mambatasnet").config.sample_rate == 8000
    given = read_checkpoint(GOLDEN / "mambatasnet", config={"sample_rate": 16000}).config
    assert given.sample_rate == 16000


def test_presets_are_the_published_sizes() -> None:
    skips = {
        name: create_model("dpmamba", preset=name).config.model_dump()["skip_around_intra"]
        for name in ("xs", "s", "m")
    }
    assert skips == {"xs": False, "s": False, "m": True}
    assert DPMamba.presets["l"]["skip_around_intra"]


def test_what_a_tensor_shows_is_not_given_again(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="config may give only"):
        load_model(folder, config={"num_filters": 3})


def test_one_of_the_files_may_be_named(folder: Path) -> None:
    model = load_model(folder / "masknet.ckpt", config=NOT_IN_TENSORS[folder.name])
    assert model.model_type == folder.name


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
        load_model(folder, config=NOT_IN_TENSORS[folder.name])


def test_a_missing_file_is_not_guessed(folder: Path) -> None:
    (folder / "decoder.ckpt").unlink()
    with pytest.raises(CheckpointError, match="not a checkpoint of a known format"):
        load_model(folder)
