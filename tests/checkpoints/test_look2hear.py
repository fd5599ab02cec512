"""SPMamba's published layouts through the door: parity, and one clear line for what does not fit."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from polsess.checkpoints import CheckpointError, load_model, read_checkpoint
from polsess.checkpoints.toolkits.look2hear import convert_spmamba
from tests.checkpoints.parity import _check_parameter_gradients, _origins
from tests.conftest import GOLDEN
from tests.models.noise_floor import assert_parity

FOLDER = GOLDEN / "spmamba"
WEIGHTS = "best_model.pth"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(FOLDER, tmp_path / "published"))


def content(path: Path) -> dict[str, Any]:
    return torch.load(path, weights_only=True)


def lightning(folder: Path) -> Path:
    """The same weights as the trainer writes them."""
    state = content(folder / WEIGHTS)["state_dict"]
    conf = yaml.safe_load((folder / "conf.yml").read_text())
    trained = {
        "state_dict": {f"audio_model.{key}": value for key, value in state.items()},
        "training_config": conf,
        "epoch": 3,
    }
    torch.save(trained, folder / "epoch=3.ckpt")
    (folder / WEIGHTS).unlink()
    (folder / "conf.yml").unlink()
    return folder / "epoch=3.ckpt"


def assert_same(source: Path, **options: Any) -> None:
    expected, found = read_checkpoint(FOLDER), read_checkpoint(source, **options)
    assert found.format == "look2hear"
    assert found.config == expected.config
    assert found.state.keys() == expected.state.keys()
    assert all(torch.equal(found.state[key], expected.state[key]) for key in expected.state)


@pytest.mark.parametrize("name", ["spmamba", "spmamba_1src_hs2"])
def test_parity(name: str) -> None:
    assert_parity(load_model(GOLDEN / name), GOLDEN / name, {}, relative=1e-8)


@pytest.mark.parametrize("name", ["spmamba", "spmamba_1src_hs2"])
def test_parity_of_the_gradient_of_every_parameter(name: str) -> None:
    folder = GOLDEN / name
    case = json.loads((folder / "meta.json").read_text())["cases"][0]
    conf = yaml.safe_load((folder / "conf.yml").read_text())
    arguments = {"audionet_config": conf["audionet"]["audionet_config"]}
    assert_gradients(
        folder, case, _origins(convert_spmamba, arguments, content(folder / WEIGHTS)["state_dict"])
    )


def assert_gradients(
    folder: Path, case: dict[str, Any], origins: tuple[list[str], dict[str, Tensor]], **options: Any
) -> None:
    from safetensors.torch import load_file

    model, tensors = load_model(folder, **options), load_file(folder / case["file"])
    estimate = model(tensors["mixture"]).view(tensors["probe"].shape)
    (estimate * tensors["probe"]).sum().backward()
    gradients = {key: value.grad for key, value in model.named_parameters() if value.grad is not None}
    _check_parameter_gradients(gradients, origins, case["param_grad_l2"])


def test_the_trainers_checkpoint(folder: Path) -> None:
    path = lightning(folder)
    assert_same(path)
    assert_same(folder)
    assert read_checkpoint(path).provenance["epoch"] == 3


def test_which_of_several_epochs_must_be_said(folder: Path, tmp_path: Path) -> None:
    best = content(folder / WEIGHTS)
    path = lightning(folder)
    shutil.copy(path, folder / "epoch=12.ckpt")
    with pytest.raises(CheckpointError, match=r"epoch=12\.ckpt, epoch=3\.ckpt: name the file"):
        read_checkpoint(folder)
    archive = tmp_path / "run.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for name in ("epoch=3.ckpt", "epoch=12.ckpt"):
            file.write(folder / name, f"run/{name}")
    with pytest.raises(CheckpointError, match="name the file"):
        read_checkpoint(archive)
    assert_same(path)
    torch.save(best, folder / WEIGHTS)
    shutil.copy(FOLDER / "conf.yml", folder)
    assert_same(folder)


def test_an_absent_argument_has_the_default_of_the_class(folder: Path) -> None:
    conf = yaml.safe_load((folder / "conf.yml").read_text())
    for name in ("eps", "emb_hs", "n_srcs"):
        del conf["audionet"]["audionet_config"][name]
    (folder / "conf.yml").write_text(yaml.safe_dump(conf))
    assert_same(folder)


def test_a_release_in_a_zip_with_the_misnamed_class(folder: Path, tmp_path: Path) -> None:
    stored = content(folder / WEIGHTS)
    torch.save({**stored, "model_name": "TFGridNetMamba"}, folder / WEIGHTS)
    archive = tmp_path / "SPMamba-LibriMix.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for name in (WEIGHTS, "conf.yml"):
            file.write(folder / name, f"SPMamba-LibriMix/{name}")
        file.writestr("../outside.txt", "no")
    assert_same(archive)
    assert not (tmp_path.parent / "outside.txt").exists()


def test_sizes_come_from_the_tensors_where_the_configuration_is_missing(folder: Path) -> None:
    (folder / "conf.yml").unlink()
    found = read_checkpoint(folder, config={"hop_length": 16})
    expected = read_checkpoint(FOLDER)
    assert found.config.model_copy(update={"approximate_qk_size": 64}) == expected.config
    mixture = torch.randn(1, 300)
    with torch.no_grad():
        loaded = load_model(folder, config={"hop_length": 16})
        assert torch.equal(loaded(mixture), load_model(FOLDER)(mixture))
    with pytest.raises(CheckpointError, match=r"config may give only .*, not num_blocks"):
        read_checkpoint(folder, config={"num_blocks": 3})


def test_what_the_configuration_holds_is_not_given_again() -> None:
    with pytest.raises(CheckpointError, match="config may give nothing, not hop_length"):
        read_checkpoint(FOLDER, config={"hop_length": 16})


def test_sample_rate_follows_the_published_frames(folder: Path) -> None:
    assert read_checkpoint(GOLDEN / "spmamba_1src_hs2").config.sample_rate == 16000
    (folder / "conf.yml").unlink()
    assert read_checkpoint(folder).config.sample_rate == 8000
    assert read_checkpoint(folder, config={"sample_rate": 44100}).config.sample_rate == 44100


def spoil_conf(folder: Path, **changes: Any) -> None:
    conf = yaml.safe_load((folder / "conf.yml").read_text())
    conf["audionet"]["audionet_config"] |= changes
    (folder / "conf.yml").write_text(yaml.safe_dump(conf))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"emb_ks": 5}, "do not fit|asks for"),
        ({"n_layers": 3}, "missing; the configuration asks for it"),
        ({"n_srcs": 3}, "asks for"),
        ({"activation": "relu"}, "activation='relu' is not read"),
        ({"window": "hamming"}, "window='hamming' is not read"),
        ({"dropout": 0.1}, "arguments that are not read: dropout"),
        ({"n_imics": 2}, "n_imics=2 is not read"),
    ],
)
def test_a_configuration_that_does_not_fit(folder: Path, changes: dict[str, Any], message: str) -> None:
    spoil_conf(folder, **changes)
    with pytest.raises(CheckpointError, match=message):
        load_model(folder)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("blocks.1.attn_conv_K_1.0.weight", None, "attn_conv_K_1.0.weight' is missing"),
        ("blocks.0.inter_norm.beta", None, "inter_norm.beta' is missing"),
        ("blocks.0.surprise", torch.zeros(1), "'surprise' is not part of this architecture"),
        ("head.weight", torch.zeros(1), "'head.weight' is not part of this architecture"),
        ("conv.0.weight", None, "incomplete"),
        ("blocks.0.intra_linear.weight", torch.zeros(3), "incomplete"),
        ("blocks.0.attn_concat_proj.0.weight", torch.zeros(8), "four dimensions"),
        ("conv.0.bias", torch.full((8,), float("nan")), "NaN"),
    ],
)
def test_tensors_that_do_not_fit(folder: Path, key: str, value: Tensor | None, message: str) -> None:
    stored = content(folder / WEIGHTS)
    if value is None:
        del stored["state_dict"][key]
    else:
        stored["state_dict"][key] = value
    torch.save(stored, folder / WEIGHTS)
    with pytest.raises(CheckpointError, match=message):
        load_model(folder)


def test_a_file_that_names_spmamba_and_holds_another_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / WEIGHTS
    torch.save({"model_name": "SPMamba", "model_args": {}, "state_dict": {"rnn.weight": torch.ones(2)}}, path)
    with pytest.raises(CheckpointError, match="SPMamba"):
        load_model(path)


def test_archives_without_weights_or_not_whole_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "release.zip"
    path.write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(CheckpointError, match="not a whole zip archive"):
        load_model(path)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("readme.txt", "nothing here")
    with pytest.raises(CheckpointError, match="not a checkpoint of a known format"):
        load_model(path)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(WEIGHTS, "not a torch file")
    with pytest.raises(CheckpointError, match=r"not a file of torch\.save"):
        load_model(path)


def test_a_configuration_without_its_sections(folder: Path) -> None:
    (folder / "conf.yml").write_text("audionet: 3\n")
    with pytest.raises(CheckpointError, match="expected Look2Hear's sections"):
        load_model(folder)
