"""Lightning checkpoints of Asteroid's trainer: class from the tensors, arguments from a file or asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from polsess.checkpoints import CheckpointError, load_model
from tests.conftest import GOLDEN

FILES = {
    "ast_convtasnet": "pytorch_model.bin",
    "ast_dprnn": "model.pth",
    "ast_dptnet": "pytorch_model.bin",
    "ast_lstmtasnet": "pytorch_model.bin",
    "ast_sudormrf": "pytorch_model.bin",
    "ast_sudormrf_improved": "pytorch_model.bin",
}
FILTERBANK = ("fb_name", "n_filters", "kernel_size", "stride", "encoder_activation")


def published(name: str) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(GOLDEN / name / FILES[name], weights_only=False)
    return content


def conf_of(name: str) -> dict[str, Any]:
    """The configuration of a recipe; the number of sources and the rate are of its data."""
    arguments = dict(published(name)["model_args"])
    data = {key: arguments.pop(key) for key in ("n_src", "sample_rate") if key in arguments}
    filterbank = {key: arguments.pop(key) for key in FILTERBANK if key in arguments}
    return {"filterbank": filterbank, "masknet": arguments, "data": {**data, "segment": 3}, "optim": {}}


def save(path: Path, name: str, **entries: Any) -> Path:
    state = {f"model.{key}": value for key, value in published(name)["state_dict"].items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    lightning = {"epoch": 7, "global_step": 70, "pytorch-lightning_version": "2.0.1", "optimizer_states": []}
    torch.save({"state_dict": state, **lightning, **entries}, path)
    return path


def assert_same(path: Path, name: str, **options: Any) -> None:
    mixture = torch.randn(1, 900)
    found, expected = load_model(path, **options), load_model(GOLDEN / name)
    assert found.config == expected.config
    assert torch.equal(found(mixture), expected(mixture))


@pytest.mark.parametrize("name", FILES)
def test_the_arguments_of_the_file_are_read(name: str, tmp_path: Path) -> None:
    path = save(tmp_path / "epoch=7-step=70.ckpt", name, training_config=conf_of(name))
    assert_same(path, name)
    assert_same(tmp_path, name)  # the only one of its folder


def test_the_configuration_of_the_run_is_read(tmp_path: Path) -> None:
    path = save(tmp_path / "exp" / "checkpoints" / "epoch=7.ckpt", "ast_convtasnet")
    (tmp_path / "exp" / "conf.yml").write_text(yaml.safe_dump(conf_of("ast_convtasnet")))
    assert_same(path, "ast_convtasnet")
    with pytest.raises(CheckpointError, match="holds the configuration; leave config out"):
        load_model(path, config={"n_src": 2})
    (tmp_path / "exp" / "conf.yml").write_text("masknet: 3\ndata: {}\n")
    with pytest.raises(CheckpointError, match="no sections filterbank, masknet and data"):
        load_model(path)


def test_arguments_that_no_file_holds_are_asked_for(tmp_path: Path) -> None:
    path = save(tmp_path / "last.ckpt", "ast_convtasnet")
    with pytest.raises(CheckpointError, match=r"arguments of ConvTasNet are neither in the file.*n_src"):
        load_model(path)
    assert_same(path, "ast_convtasnet", config=published("ast_convtasnet")["model_args"])


def test_of_several_checkpoints_one_is_named(tmp_path: Path) -> None:
    for epoch in (1, 2):
        save(tmp_path / f"epoch={epoch}.ckpt", "ast_convtasnet", training_config=conf_of("ast_convtasnet"))
    with pytest.raises(CheckpointError, match=r"epoch=1.ckpt, epoch=2.ckpt: name the file"):
        load_model(tmp_path)
