"""`polsess average`: the mean of weights, and which checkpoints have none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from polsess.checkpoints import load_model, save_model
from polsess.cli.main import app
from polsess.models import create_model


@pytest.fixture
def saved(tmp_path: Path) -> list[str]:
    folders = []
    for seed in range(3):
        torch.manual_seed(seed)
        folders.append(str(tmp_path / f"run{seed}"))
        save_model(create_model("convtasnet", preset="tiny", norm="bN"), folders[-1], task="SB")
    return folders


def average(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["average", *words])
    return result.exit_code, result.stderr


def test_every_weight_is_the_mean_and_the_card_says_of_what(saved: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "mean"
    assert average(*saved, "-o", str(folder)) == (0, f"Saved: {folder}\n")
    states = [load_model(each).state_dict() for each in saved]
    for key, tensor in load_model(folder).state_dict().items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, torch.stack([state[key] for state in states]).mean(0))
    assert "mean of the weights of run0, run1, run2" in (folder / "README.md").read_text()


def test_other_networks_are_refused(saved: list[str], tmp_path: Path) -> None:
    save_model(create_model("convtasnet", preset="tiny", norm="cLN"), tmp_path / "other")
    code, error = average(saved[0], str(tmp_path / "other"), "-o", str(tmp_path / "mean"))
    assert code == 3
    assert "other: expected norm 'bN' of" in error
    save_model(create_model("skim", preset="tiny"), tmp_path / "other")
    code, error = average(saved[0], str(tmp_path / "other"), "-o", str(tmp_path / "mean"))
    assert "expected model_type 'convtasnet'" in error
    assert "two checkpoints or more" in average(saved[0], "-o", str(tmp_path / "mean"))[1]
    assert not (tmp_path / "mean").exists()
