"""GTCRN's published file through the door: parity, and files that do not fit."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from polsess.checkpoints import CheckpointError, load_model, read_checkpoint
from polsess.checkpoints.toolkits.gtcrn import convert_gtcrn
from tests.checkpoints.parity import assert_parity_within_noise
from tests.conftest import GOLDEN

FOLDER = GOLDEN / "gtcrn"


def content() -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(FOLDER / "model.tar", weights_only=True)
    return loaded


def test_parity() -> None:
    assert_parity_within_noise(FOLDER, convert_gtcrn, {}, content()["model"])


def test_the_file_is_recognised_by_its_tensors(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(FOLDER / "model.tar")
    assert (checkpoint.format, checkpoint.config.model_dump()["num_sources"]) == ("gtcrn", 1)
    for name in ("model_trained_on_dns3.tar", "model_trained_on_vctk.tar"):
        shutil.copyfile(FOLDER / "model.tar", tmp_path / name)
    with pytest.raises(CheckpointError, match="name one of model_trained_on_dns3"):
        load_model(tmp_path)
    with pytest.raises(CheckpointError, match="one size; leave config out"):
        load_model(FOLDER / "model.tar", config={"model_type": "gtcrn"})


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("erb.erb_fc.weight", None, "to_bands is missing"),
        ("dpgrnn3.intra_fc.weight", torch.zeros(2, 2), "'dpgrnn3.intra_fc.weight' is not part of"),
        ("decoder.de_convs.0.point_conv1.weight", torch.zeros(24, 15, 1, 1), r"\[15, 24, 1, 1\]"),
    ],
)
def test_damaged_tensors(tmp_path: Path, key: str, value: torch.Tensor | None, message: str) -> None:
    loaded = content()
    loaded["model"].pop(key, None)
    torch.save(
        loaded if value is None else {**loaded, "model": {**loaded["model"], key: value}}, tmp_path / "x.tar"
    )
    with pytest.raises(CheckpointError, match=message) as error:
        load_model(tmp_path / "x.tar")
    assert "\n" not in str(error.value)
