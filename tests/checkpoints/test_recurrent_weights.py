"""DPRNN, DPTNet, LSTM-TasNet and SuDoRM-RF files of Asteroid, SpeechBrain and the original trainer."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from polsess.checkpoints import load_model
from polsess.checkpoints.asteroid.reader import CONVERTERS as ASTEROID
from polsess.checkpoints.formats import Converter
from polsess.checkpoints.legacy import reader as legacy
from polsess.checkpoints.speechbrain import reader as speechbrain
from polsess.checkpoints.speechbrain.hyperparams import Hyperparams
from polsess.checkpoints.weight_files import WeightFiles, state_of
from tests.checkpoints.parity import assert_parity
from tests.conftest import GOLDEN

ASTEROID_FILES = {
    "ast_dprnn": "model.pth",
    "ast_dptnet": "pytorch_model.bin",
    "ast_lstmtasnet": "pytorch_model.bin",
    "ast_sudormrf": "pytorch_model.bin",
    "ast_sudormrf_improved": "pytorch_model.bin",
}


def asteroid(name: str) -> tuple[Converter, dict[str, Any], dict[str, Tensor]]:
    """The converter of a golden folder and what it takes."""
    source = ASTEROID_FILES[name]
    content = WeightFiles(GOLDEN / name).torch_dict(source)
    state = state_of(content["state_dict"], source)
    return ASTEROID[content["model_name"]], dict(content["model_args"]), state


def other(name: str) -> tuple[Converter, dict[str, Any], dict[str, Tensor]]:
    files = WeightFiles(GOLDEN / name)
    if name.startswith("polsess"):
        content = files.torch_dict("dprnn_SB_best.pt")
        model_type, arguments = legacy.model_arguments(content["config"]["model"], name)
        return legacy.CONVERTERS[model_type], arguments, state_of(content["model_state_dict"], name)
    hyperparams = Hyperparams(files.yaml("hyperparams.yaml"), name)
    arguments = speechbrain.network_arguments(hyperparams, name)
    state = {
        f"{part}.{key}": value
        for part in speechbrain.PARTS
        for key, value in state_of(files.torch_file(f"{part}.ckpt"), part).items()
    }
    return speechbrain.CONVERTERS[speechbrain._network_name(hyperparams)], arguments, state


@pytest.mark.parametrize("name", [*ASTEROID_FILES, "sb_dprnn", "polsess_dprnn"])
def test_golden_parity(name: str) -> None:
    folder = GOLDEN / name
    convert, arguments, state = asteroid(name) if name in ASTEROID_FILES else other(name)
    assert_parity(folder, convert=convert, arguments=arguments, state=state)
    model = load_model(folder)
    expected = json.loads((folder / "meta.json").read_text())["num_params"]
    assert sum(parameter.numel() for parameter in model.parameters()) == expected
    for path in folder.glob("io*.safetensors"):  # inference takes other kernels
        tensors = load_file(path)
        with torch.no_grad():
            estimate = model(tensors["mixture"])
        target = tensors["estimate"]
        torch.testing.assert_close(estimate[..., : target.shape[-1]], target, rtol=1e-5, atol=3e-6)
