"""SepReformer's training files through the door: parity, variants, and what does not fit."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from polsess.checkpoints import CheckpointError, load_model, read_checkpoint
from polsess.checkpoints.toolkits.sepreformer import native_name
from polsess.models.layers.focused_attention import FocusedOptions
from tests.conftest import GOLDEN
from tests.models.noise_floor import assert_parity

FOLDER = GOLDEN / "sepreformer"
WEIGHTS = "epoch.0009.pth"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(FOLDER, tmp_path / "log" / "published"))


def content() -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(FOLDER / WEIGHTS, weights_only=True)
    return loaded


def save(state: dict[str, Any], path: Path) -> None:
    torch.save({**content(), "model_state_dict": state}, path)


def test_parity() -> None:
    model = load_model(FOLDER)
    names = {
        key: re.sub(r"\.attention\.[qkv]\.", ".attention.qkv.", native_name(key))
        for key in content()["model_state_dict"]
        if not key.startswith(("out_layer_bn", "decoder_bn"))
        and not key.endswith(("running_mean", "running_var", "num_batches_tracked"))
    }
    assert_parity(model, FOLDER, names)


def test_the_configuration_is_read_or_told_by_the_tensors() -> None:
    checkpoint = read_checkpoint(FOLDER)
    assert checkpoint.format == "sepreformer"
    assert checkpoint.provenance.items() >= {"epoch": 9, "train_loss": -1.0, "valid_loss": -1.0}.items()
    assert checkpoint.config.model_dump() == {
        "model_type": "sepreformer",
        "attention": "relative",
        **FocusedOptions().model_dump(),
        "num_sources": 2,
        "sample_rate": 8000,
        "num_filters": 16,
        "kernel_size": 16,
        "stride": 4,
        "num_features": 8,
        "num_stages": 2,
        "num_heads": 2,
        "max_distance": 30,
        "local_kernel_size": 9,
        "sampling_kernel_size": 5,
        "shared_split": True,
        "dropout": 0.05,
    }


def test_of_several_epochs_the_last_and_the_named_one(folder: Path) -> None:
    torch.save({**content(), "epoch": 10}, folder / "epoch.0010.pth")
    assert read_checkpoint(folder).provenance["epoch"] == 10
    assert read_checkpoint(folder / WEIGHTS).provenance["epoch"] == 9


def test_the_trainer_keeps_its_configuration_two_folders_above(folder: Path) -> None:
    (folder / "configs.yaml").rename(folder.parents[1] / "configs.yaml")
    assert read_checkpoint(folder).config == read_checkpoint(FOLDER).config


def test_splits_of_their_own_per_stage(folder: Path) -> None:
    state = content()["model_state_dict"]
    prefix = "separator.spk_split_block."
    shared = {key.removeprefix(prefix): state.pop(key) for key in list(state) if key.startswith(prefix)}
    for index in range(3):
        state |= {f"separator.spk_split_blocks.{index}.{key}": value for key, value in shared.items()}
    save({f"module.{key}": value for key, value in state.items()}, folder / WEIGHTS)
    model, mixture = load_model(folder), torch.randn(1, 500)
    assert model.config.model_dump()["shared_split"] is False
    with torch.no_grad():  # all copies alike: the shared model's estimate
        torch.testing.assert_close(model(mixture), load_model(FOLDER)(mixture))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("audio_encoder.conv1d.weight", None, "encoder.weight is missing"),
        ("audio_encoder.conv1d.weight", torch.zeros(2), r"encoder.weight is \[2\]; expected 3 dimensions"),
        ("out_layer.end_conv1x1.0.bias", None, "output.layers.0.bias is missing"),
        ("separator.pos_emb.pe_v.weight", torch.zeros(4, 4), "pos_emb.pe_v.weight is unknown"),
        ("module.audio_decoder.weight", torch.zeros(16, 1, 16), "two tensors take the place"),
        ("audio_decoder.weight", torch.zeros(16, 1, 8), r"decoder.weight is \[16, 1, 8\]"),
        (
            "separator.bottleneck_G.g_block_1.block.ega.block.self_attn.linear_q.weight",
            torch.zeros(8, 7),
            "queries, keys and values differ",
        ),
    ],
)
def test_damaged_tensors(folder: Path, key: str, value: torch.Tensor | None, message: str) -> None:
    state = content()["model_state_dict"]
    state.pop(key, None)
    save(state if value is None else {**state, key: value}, folder / WEIGHTS)
    with pytest.raises(CheckpointError, match=message) as error:
        load_model(folder)
    assert "\n" not in str(error.value)


def test_a_value_that_is_no_tensor(folder: Path) -> None:
    save({**content()["model_state_dict"], "note": "best"}, folder / WEIGHTS)
    with pytest.raises(CheckpointError, match="expected tensors by name, got 'note'") as error:
        load_model(folder)
    assert str(error.value).count(str(folder)) == 1


def test_what_no_tensor_shows_is_given_once(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="leave config out"):
        load_model(folder, config={"stride": 4})
    with pytest.raises(CheckpointError, match=r"config may give only .*, not num_filters"):
        load_model(folder, config={"num_filters": 4})
    (folder / "configs.yaml").write_text("config: {model: {}}\n")
    with pytest.raises(CheckpointError, match="stride is missing"):
        load_model(folder)
    (folder / "configs.yaml").unlink()
    with pytest.raises(CheckpointError, match=r"configs.yaml is missing; pass .*'stride': 4"):
        load_model(folder)
    assert load_model(folder, config={"stride": 8}).hop_length == 8
