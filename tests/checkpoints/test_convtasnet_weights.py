from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from polsess.checkpoints import CheckpointError, load_model
from polsess.checkpoints.building import build_model
from polsess.checkpoints.formats import Converter
from polsess.checkpoints.toolkits import original
from polsess.checkpoints.toolkits.asteroid import tasnet as asteroid
from polsess.checkpoints.toolkits.original import model_arguments
from polsess.checkpoints.toolkits.speechbrain import convtasnet as speechbrain
from polsess.checkpoints.toolkits.speechbrain.hyperparams import Hyperparams
from polsess.checkpoints.toolkits.speechbrain.reader import PARTS, network_arguments
from polsess.checkpoints.weight_files import WeightFiles
from polsess.models import parse_model_config
from polsess.models.convtasnet import ConvTasNetConfig
from tests.checkpoints.parity import assert_parity
from tests.conftest import GOLDEN

Foreign = tuple[Converter, dict[str, Any], dict[str, Tensor]]


def asteroid_file(folder: str) -> Foreign:
    content = WeightFiles(GOLDEN / folder).torch_dict("pytorch_model.bin")
    return asteroid.convert_convtasnet, content["model_args"], content["state_dict"]


def speechbrain_folder(folder: str) -> Foreign:
    files = WeightFiles(GOLDEN / folder)
    arguments = network_arguments(Hyperparams(files.yaml("hyperparams.yaml"), folder), folder)
    state = {
        f"{part}.{key}": value for part in PARTS for key, value in files.torch_dict(f"{part}.ckpt").items()
    }
    return speechbrain.convert_convtasnet, arguments, state


def original_file(folder: str) -> Foreign:
    content = WeightFiles(GOLDEN / folder).torch_dict("best_model.pt")
    _, arguments = model_arguments(content["config"]["model"], folder)
    return original.convert_convtasnet, arguments, content["model_state_dict"]


@pytest.mark.parametrize(
    ("folder", "read"),
    [
        ("ast_convtasnet", asteroid_file),
        ("sb_convtasnet", speechbrain_folder),
        ("sb_convtasnet_causal", speechbrain_folder),
        ("polsess_convtasnet_legacy", original_file),
    ],
)
def test_golden_parity(folder: str, read: Any) -> None:
    convert, arguments, state = read(folder)
    assert_parity(GOLDEN / folder, convert=convert, arguments=arguments, state=state)


@pytest.mark.parametrize("name", ["hyperparams.yaml", "masknet.ckpt"])
def test_a_file_of_a_folder_stands_for_it(name: str) -> None:
    mixture = torch.randn(1, 500)
    whole, part = (load_model(GOLDEN / "sb_convtasnet" / each) for each in (".", name))
    assert torch.equal(whole(mixture), part(mixture))


def config_of(arguments: dict[str, Any]) -> ConvTasNetConfig:
    """The configuration that Asteroid's arguments give, without weights."""
    state: dict[str, Tensor] = {}
    blocks = arguments.get("n_blocks", 8) * arguments.get("n_repeats", 3)
    for block in range(blocks):
        for name in ("res_conv", "skip_conv"):
            state[f"masker.TCN.{block}.{name}.weight"] = torch.zeros(1, 1, 1)
            state[f"masker.TCN.{block}.{name}.bias"] = torch.zeros(1)
    config = parse_model_config(asteroid.convert_convtasnet(arguments, state).model)
    assert isinstance(config, ConvTasNetConfig)
    return config


def test_eras_of_asteroid() -> None:
    old = config_of({"n_src": 2, "fb_name": "free", "n_filters": 64, "kernel_size": 20, "stride": 10})
    assert old.encoder_activation == "linear"  # before 0.3.1 there was no such key
    assert old.sample_rate == 8000
    assert config_of({"n_src": 2, "encoder_activation": "relu"}).encoder_activation == "relu"
    assert config_of({"n_src": 3, "mask_act": "softmax", "sample_rate": 16000.0}).sample_rate == 16000
    assert config_of({"n_src": 2, "causal": True}).norm == "cLN"
    assert config_of({"n_src": 2, "causal": True, "norm_type": "cgLN"}).norm == "cgLN"
    assert config_of({"n_src": 2, "skip_chan": None}).skip_channels == 0


def test_causal_networks_of_asteroid() -> None:
    convert, arguments, state = asteroid_file("ast_convtasnet")
    # There a layer that cuts the end stands behind the convolution: "shared_block.3" is a pair of modules.
    causal = {key.replace("shared_block.3.", "shared_block.3.0."): value for key, value in state.items()}
    converted = convert({**arguments, "causal": True}, causal)
    plain = convert(arguments, state)
    assert converted.model["causal"]
    assert converted.state.keys() == plain.state.keys()
    key = "blocks.0.depthwise.weight"
    assert torch.equal(converted.state[key], plain.state[key])
    build_model(parse_model_config(converted.model), converted.state, "causal")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "argument 'n_src' is missing"),
        ({"n_src": 2, "fb_name": "torch_stft"}, "fb_name='torch_stft' is not read, only FreeFB"),
        ({"n_src": 2, "mask_act": "elu"}, "mask_act='elu' is not read, only linear"),
        ({"n_src": 2, "norm_type": "BN"}, "norm_type='BN' is not read, only gLN, cLN, cgLN, fgLN, bN"),
        ({"n_src": 2, "causal": True, "conv_kernel_size": 1}, "conv_kernel_size=1 with causal=True left no"),
        ({"n_src": 2, "in_chan": 40}, "in_chan=40 differs"),
        ({"n_src": 2, "lr": 3}, "not read: lr=3"),
        ({"n_src": 2, "mask_act": ["relu"]}, "is not read"),
    ],
)
def test_asteroid_arguments_that_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        config_of(arguments)


def test_foreign_tensors_that_are_left_over_or_missing() -> None:
    convert, arguments, state = asteroid_file("ast_convtasnet")
    with pytest.raises(CheckpointError, match=r"'masker.TCN.0.gate' is not part"):
        convert(arguments, {**state, "masker.TCN.0.gate": torch.zeros(1)})
    without = {key: value for key, value in state.items() if key != "masker.TCN.3.skip_conv.bias"}
    with pytest.raises(CheckpointError, match=r"'3.skip_conv.bias' is missing"):
        convert(arguments, without)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"masknet": {"norm_type": "BN"}}, "norm_type='BN' is not read, only gLN, cLN"),
        ({"masknet": {"mask_nonlinear": "sigmoid"}}, "mask_nonlinear='sigmoid'"),
        ({"masknet": {"kernel": 1}}, "not read: kernel=1"),
        ({"decoder": {"stride": 4}}, "stride=4 does not fit"),
        ({"decoder": {"bias": True}}, "bias=True is not read"),
        ({"encoder": {"in_channels": 2}}, "in_channels=2"),
    ],
)
def test_speechbrain_arguments_that_are_refused(change: dict[str, Any], message: str) -> None:
    convert, arguments, state = speechbrain_folder("sb_convtasnet")
    for part, values in change.items():
        arguments[part] = {**arguments[part], **values}
    with pytest.raises(CheckpointError, match=message):
        convert(arguments, state)


def test_softmax_of_speechbrain_runs_over_the_filters() -> None:
    convert, arguments, state = speechbrain_folder("sb_convtasnet")
    arguments["masknet"]["mask_nonlinear"] = "softmax"
    converted = convert(arguments, state)
    model = build_model(parse_model_config(converted.model), converted.state, "test")
    assert model.config.model_dump()["mask_activation"] == "filter_softmax"


@pytest.mark.parametrize("era", ["nested", "flat", "compiled", "without_config"])
def test_eras_of_the_original_project(era: str, tmp_path: Any) -> None:
    content = WeightFiles(GOLDEN / "polsess_convtasnet_legacy").torch_dict("best_model.pt")
    model_section, config = content["config"]["model"], None
    if era == "flat":
        content["config"] = {"model": model_section["convtasnet"]}
    if era == "compiled":
        content["model_state_dict"] = {f"_orig_mod.{k}": v for k, v in content["model_state_dict"].items()}
    if era == "without_config":
        del content["config"]
        config = model_section
    torch.save(content, tmp_path / "best_model.pt")
    expected = load_model(GOLDEN / "polsess_convtasnet_legacy")
    model = load_model(tmp_path / "best_model.pt", config=config)
    mixture = torch.randn(1, 700)
    assert torch.equal(model(mixture), expected(mixture))


def test_a_missing_configuration_names_what_to_pass(tmp_path: Any) -> None:
    content = WeightFiles(GOLDEN / "polsess_convtasnet_legacy").torch_dict("best_model.pt")
    del content["config"]
    torch.save(content, tmp_path / "m.pt")
    with pytest.raises(CheckpointError, match=r"m.pt: holds no configuration; pass .* config="):
        load_model(tmp_path / "m.pt")
    with pytest.raises(CheckpointError, match="leave config out"):
        load_model(GOLDEN / "polsess_convtasnet_legacy", config={"N": 2})
