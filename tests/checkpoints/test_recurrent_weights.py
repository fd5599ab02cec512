"""DPRNN, DPTNet, LSTM-TasNet and SuDoRM-RF files of Asteroid, SpeechBrain and the original trainer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from polsess.checkpoints import CheckpointError, load_model, read_checkpoint
from polsess.checkpoints.building import build_model
from polsess.checkpoints.formats import Converter
from polsess.checkpoints.toolkits import original
from polsess.checkpoints.toolkits.asteroid.reader import CONVERTERS as ASTEROID
from polsess.checkpoints.toolkits.speechbrain import reader as speechbrain
from polsess.checkpoints.toolkits.speechbrain.hyperparams import Hyperparams, Instance
from polsess.checkpoints.weight_files import WeightFiles, state_of
from polsess.models import ModelConfig, parse_model_config
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
        model_type, arguments = original.model_arguments(content["config"]["model"], name)
        return original.CONVERTERS[model_type], arguments, state_of(content["model_state_dict"], name)
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
        torch.testing.assert_close(estimate[..., : target.shape[-1]], target, rtol=1e-5, atol=1e-5)


UNSET = {"in_chan": None, "out_chan": None}


def changed_config(name: str, **arguments: Any) -> ModelConfig:
    """The configuration of a golden network whose file says these arguments, without ``None`` ones."""
    convert, stored, state = asteroid(name)
    merged = {key: value for key, value in {**stored, **arguments}.items() if value is not None}
    return parse_model_config(convert(merged, state).model)


@pytest.mark.parametrize(
    ("name", "sources", "activation"),
    [
        ("ast_dprnn", 2, "filter_softmax"),
        ("ast_dprnn", 1, "filter_softmax"),
        ("ast_lstmtasnet", 2, "frame_softmax"),
        ("ast_dptnet", 3, "softmax"),
        ("ast_dptnet", 1, "ones"),
        ("ast_sudormrf", 2, "softmax"),
        ("ast_sudormrf", 1, "ones"),
        ("ast_sudormrf_improved", 1, "ones"),
    ],
)
def test_what_a_softmax_was(name: str, sources: int, activation: str) -> None:
    config = changed_config(name, n_src=sources, mask_act="softmax")
    assert config.model_dump()["mask_activation"] == activation
    assert config.num_sources == sources


def test_eras_and_arguments_of_asteroid() -> None:
    old = changed_config("ast_dprnn").model_dump()  # a file of 2020: neither activation nor rate
    assert (old["encoder_activation"], old["sample_rate"]) == ("linear", 8000)
    new = changed_config(
        "ast_dprnn", encoder_activation="relu", rnn_type="gru", bidirectional=False, sample_rate=16000.0,
        num_layers=2, dropout=0.25, use_mulcat=True, hop_size=7, mask_act="swish", norm_type="cLN",
    ).model_dump()  # fmt: skip
    wanted = {
        "encoder_activation": "relu", "rnn_type": "GRU", "inter_bidirectional": False, "sample_rate": 16000,
        "num_layers": 2, "dropout": 0.25, "multiplicative": True, "hop_size": 7, "mask_activation": "silu",
        "norm": "cLN", "intra_bidirectional": True,
    }  # fmt: skip
    assert {key: new[key] for key in wanted} == wanted
    assert changed_config("ast_dprnn", dropout=0.5).model_dump()["dropout"] == 0.0  # one layer: no effect
    assert changed_config("ast_lstmtasnet", rnn_type="gru") == changed_config("ast_lstmtasnet")
    assert changed_config("ast_sudormrf", stride=3) == changed_config("ast_sudormrf")


@pytest.mark.parametrize(
    ("version", "partner"), [("1.7.1", "hilbert"), ("1.8.0", "mirror"), ("2.1", "mirror")]
)
def test_what_analytic_filters_were(version: str, partner: str) -> None:
    config = changed_config("ast_dprnn", fb_name="analytic_free", torch_version=version).model_dump()
    assert config["filters"] == {"kind": "analytic", "partner": partner}


def test_multiply_and_concatenate_networks_are_read() -> None:
    convert, arguments, state = asteroid("ast_dprnn")
    twice: dict[str, Tensor] = {}
    for key, value in state.items():
        if "_RNN.rnn." in key:
            twice |= {key.replace(".rnn.", ".rnn1."): value, key.replace(".rnn.", ".rnn2."): value}
        elif "_linear.weight" in key:
            twice[key] = torch.cat([value, torch.zeros(12, 12)], 1)
        else:
            twice[key] = value
    converted = convert({**arguments, "use_mulcat": True}, twice)
    model = build_model(parse_model_config(converted.model), converted.state, "test")
    assert model(torch.randn(1, 300)).shape == (1, 2, 300)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("ast_dprnn", {"norm_type": "cgLN"}, "norm_type='cgLN' is not read"),
        ("ast_dprnn", {"mask_act": "elu"}, "mask_act='elu' is not read"),
        ("ast_dprnn", {"rnn_type": "QRNN"}, "rnn_type='QRNN' is not read"),
        ("ast_dprnn", {"fb_name": "TorchSTFTFB"}, "fb_name='TorchSTFTFB' is not read"),
        ("ast_dprnn", {"fb_name": "stft", "min_low_hz": 50, **UNSET}, "not read: min_low_hz=50"),
        ("ast_dprnn", {"fb_name": "analytic_free"}, "depend on the version of torch .* add torch_version"),
        ("ast_dprnn", {"encoder_activation": "softmax"}, "encoder_activation='softmax' is not read"),
        ("ast_lstmtasnet", {"fb_name": "mpgtf"}, "fb_name='mpgtf' is not read, only FreeFB, free"),
        ("ast_dptnet", {"ff_activation": "prelu"}, "ff_activation"),
        ("ast_dptnet", {"surprise": 1}, "not read: surprise=1"),
        ("ast_lstmtasnet", {"encoder_activation": "relu"}, "after the gate"),
        ("ast_sudormrf", {"encoder_activation": "linear"}, "its encoder is relu"),
        ("ast_sudormrf_improved", {"stride": 7}, "stride 7 is not read"),
        ("ast_sudormrf_improved", {"out_chan": 7}, "out_chan=7 differs"),
    ],
)
def test_arguments_that_are_refused(name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        changed_config(name, **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_src": 3}, r"to_masks.to_sources.weight is \[24, 12\], the configuration asks for \[36, 12\]"),
        ({"n_repeats": 3}, "missing; the configuration asks for it"),
        ({"n_repeats": 1}, "unknown; the configuration has no place for it"),
        ({"kernel_size": "16", "stride": None}, "wrong kind"),
        ({"hid_size": "10"}, "hidden_size"),
        ({"num_layers": None}, "num_layers"),
        ({"bidirectional": "no"}, "inter_bidirectional"),
    ],
)
def test_files_that_contradict_themselves(arguments: dict[str, Any], message: str, tmp_path: Path) -> None:
    content = dict(WeightFiles(GOLDEN / "ast_dprnn").torch_dict("model.pth"))
    content["model_args"] = {**content["model_args"], **arguments}
    torch.save(content, tmp_path / "model.pth")
    with pytest.raises(CheckpointError, match=message) as caught:
        load_model(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"norm": "bn"}, "norm='bn' is not read"),
        ({"use_global_pos_enc": True}, "use_global_pos_enc=True is not read"),
        ({"inter_model": Instance("x.DPTNetBlock", {})}, "inter_model: 'DPTNetBlock' is not read, only SBTr"),
        ({"inter_model": Instance("x.SBTransformerBlock", {})}, "'num_layers' is missing"),
        ({"inter_model": Instance("x.SBRNNBlock", {"num_layers": 1})}, "'hidden_channels' is missing"),
        ({"depth": 3}, "not read: depth=3"),
    ],
)
def test_speechbrain_arguments_that_are_refused(change: dict[str, Any], message: str) -> None:
    convert, arguments, state = other("sb_dprnn")
    masknet = {**arguments["masknet"], **change}
    with pytest.raises(CheckpointError, match=message):
        convert({**arguments, "masknet": masknet}, state)


@pytest.mark.parametrize("cell", ["LSTM", "GRU", "RNN"])
def test_cells_of_speechbrain(cell: str) -> None:
    convert, arguments, state = other("sb_dprnn")
    block = Instance(
        "x.SBRNNBlock", {"hidden_channels": 16, "num_layers": 2, "rnn_type": cell, "dropout": 0.1}
    )
    masknet = {**arguments["masknet"], "intra_model": block, "inter_model": block, "norm": "cln"}
    config = parse_model_config(convert({**arguments, "masknet": masknet}, state).model).model_dump()
    expected = {"LSTM": "LSTM", "GRU": "GRU", "RNN": "RNN_RELU"}[cell]  # its plain RNN has relu
    assert (config["rnn_type"], config["dropout"], config["norm"]) == (expected, 0.1, "cLN")


def test_the_original_project_s_defaults(tmp_path: Path) -> None:
    content = dict(WeightFiles(GOLDEN / "polsess_dprnn").torch_dict("dprnn_SB_best.pt"))
    section = content["config"]["model"]["dprnn"]
    kept = {key: value for key, value in section.items() if key not in ("kernel_size", "stride", "dropout")}
    content["config"] = {"model": {"model_type": "dprnn", "dprnn": kept}}
    content["model_state_dict"] = {f"_orig_mod.{k}": v for k, v in content["model_state_dict"].items()}
    torch.save(content, tmp_path / "dprnn_SB_best.pt")
    read = read_checkpoint(tmp_path / "dprnn_SB_best.pt")
    assert read.config == read_checkpoint(GOLDEN / "polsess_dprnn").config
    assert read_checkpoint(GOLDEN / "polsess_dprnn").task == "SB"
