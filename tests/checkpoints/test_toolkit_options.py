"""Options of toolkits that few published files have: files of a formula give what the toolkit computed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from polsess.checkpoints import load_model, save_model
from tests.checkpoints.formula import formula_sound, formula_state
from tests.conftest import GOLDEN

FOLDER = GOLDEN / "toolkit_options"
TOOLKITS = ["speechbrain", "asteroid", "espnet"]
FACTS: dict[str, dict[str, Any]] = {
    toolkit: json.loads((FOLDER / f"{toolkit}.json").read_text()) for toolkit in TOOLKITS
}


def write_speechbrain(folder: Path, facts: dict[str, Any]) -> None:
    """The folder of a publication."""
    (folder / "hyperparams.yaml").write_text(facts["source"])
    for part, shapes in facts["tensors"].items():
        torch.save(formula_state(shapes), folder / f"{part}.ckpt")


def write_asteroid(folder: Path, facts: dict[str, Any]) -> None:
    """The file of a publication."""
    name, arguments = facts["source"]
    state = formula_state(facts["tensors"]["model"])
    infos = {"software_versions": {"torch_version": "2.1.0"}}
    content = {"model_name": name, "model_args": arguments, "state_dict": state, "infos": infos}
    torch.save(content, folder / "model.pth")


def write_espnet(folder: Path, facts: dict[str, Any]) -> None:
    """The folder of an experiment."""
    (folder / "config.yaml").write_text(yaml.safe_dump(facts["source"]))
    state = {
        f"{part}.{key}": value
        for part, shapes in facts["tensors"].items()
        for key, value in formula_state(shapes).items()
    }
    torch.save(state, folder / "valid.loss.best.pth")


WRITERS = {"speechbrain": write_speechbrain, "asteroid": write_asteroid, "espnet": write_espnet}


@pytest.mark.parametrize(
    ("toolkit", "name"), [(toolkit, name) for toolkit in TOOLKITS for name in FACTS[toolkit]]
)
def test_parity(toolkit: str, name: str, tmp_path: Path) -> None:
    facts = FACTS[toolkit][name]
    WRITERS[toolkit](tmp_path, facts)
    model = load_model(tmp_path)
    assert sum(parameter.numel() for parameter in model.parameters()) == facts["num_params"]
    results = load_file(FOLDER / f"{toolkit}.safetensors")
    expected, gradient = results[f"{name}.estimate"], results[f"{name}.grad_mixture"]
    mixture = formula_sound(2, facts["num_samples"]).requires_grad_()
    estimate = model(mixture).view(2, model.output_sources, -1)[..., : expected.shape[-1]]
    scale = float(expected.abs().max())
    torch.testing.assert_close(estimate, expected, rtol=1e-4, atol=1e-5 * scale)
    probe = formula_sound(2 * model.output_sources, expected.shape[-1]).view(expected.shape)
    (estimate * probe).sum().backward()
    assert mixture.grad is not None
    scale = float(gradient.abs().max())
    torch.testing.assert_close(mixture.grad, gradient, rtol=1e-3, atol=1e-4 * scale)
    with torch.no_grad():  # other kernels, and a folder of our own
        again = load_model(save_model(model, tmp_path / "saved"))(mixture)
        torch.testing.assert_close(again, model(mixture), rtol=0.0, atol=0.0)
        torch.testing.assert_close(
            again.view(estimate.shape[0], estimate.shape[1], -1)[..., : expected.shape[-1]],
            expected,
            rtol=1e-4,
            atol=1e-5 * float(expected.abs().max()),
        )
