from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from polsess.checkpoints import convert_checkpoint, load_model, read_checkpoint
from polsess.cli.main import app
from polsess.cli.terminal import ExitCode
from tests.conftest import GOLDEN


def run(*words: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["convert", *map(str, words)])
    return result.exit_code, result.stderr


@pytest.mark.parametrize(
    ("source", "format_name", "task"),
    [
        ("ast_convtasnet", "asteroid", None),
        ("sb_convtasnet", "speechbrain", None),
        ("polsess_convtasnet_legacy", "original", "SB"),
    ],
)
def test_weights_pass_unchanged(source: str, format_name: str, task: str | None, tmp_path: Path) -> None:
    folder = convert_checkpoint(GOLDEN / source, tmp_path / "model", license_name="cc-by-sa-4.0")
    mixture = torch.randn(1, 500)
    assert torch.equal(load_model(folder)(mixture), load_model(GOLDEN / source)(mixture))
    checkpoint = read_checkpoint(folder)
    assert checkpoint.task == task
    origin = {"source": source, "format": format_name, "revision": None}
    assert checkpoint.provenance["converted_from"] == origin
    assert "license: cc-by-sa-4.0" in (folder / "README.md").read_text()
    assert str(GOLDEN) not in (folder / "config.json").read_text()


def test_scores_of_the_source_are_kept(tmp_path: Path) -> None:
    folder = convert_checkpoint(GOLDEN / "ast_convtasnet", tmp_path / "model")
    original = read_checkpoint(GOLDEN / "ast_convtasnet").provenance["infos"]["final_metrics"]
    kept = json.loads((folder / "config.json").read_text())["provenance"]["infos"]["final_metrics"]
    assert kept == original
    assert kept


def test_folders_of_a_machine_are_not_told(tmp_path: Path) -> None:
    content = torch.load(GOLDEN / "polsess_convtasnet_legacy" / "best_model.pt", weights_only=True)
    content["config"]["data"]["roots"] = [
        "/home/anna/speech/train.csv",
        r"C:\\speech\\dev.csv",
        "data/x.csv",
        "a/b",
    ]
    torch.save(content, tmp_path / "m.pt")
    provenance = read_checkpoint(convert_checkpoint(tmp_path / "m.pt", tmp_path / "model")).provenance
    assert provenance["config"]["data"]["roots"] == ["train.csv", "dev.csv", "data/x.csv", "a/b"]


def test_provenance_that_json_does_not_know(tmp_path: Path) -> None:
    content = torch.load(GOLDEN / "polsess_convtasnet_legacy" / "best_model.pt", weights_only=True)
    content["val_sisdr"] = float("nan")
    content["config"]["data"]["extra"] = (1, float("inf"), torch.float16)
    torch.save(content, tmp_path / "m.pt")
    folder = convert_checkpoint(tmp_path / "m.pt", tmp_path / "model")
    provenance = read_checkpoint(folder).provenance
    assert provenance["val_sisdr"] == "nan"
    assert provenance["config"]["data"]["extra"] == [1, "inf", "torch.float16"]


def test_the_command(tmp_path: Path) -> None:
    code, message = run(GOLDEN / "sb_convtasnet", tmp_path / "a", "--half", "--license", "apache-2.0")
    assert (code, message) == (ExitCode.DONE, f"Saved: {tmp_path / 'a'}\n")
    assert load_model(tmp_path / "a").model_type == "convtasnet"
    code, message = run(tmp_path / "nothing", tmp_path / "b")
    assert code == ExitCode.MODEL
    assert "no such file or folder" in message
    code, message = run(GOLDEN / "sb_convtasnet", tmp_path)
    assert (code, "holds other files (a)" in message) == (ExitCode.MODEL, True)


def test_the_command_takes_the_old_configuration(tmp_path: Path) -> None:
    content = torch.load(GOLDEN / "polsess_convtasnet_legacy" / "best_model.pt", weights_only=True)
    (tmp_path / "old.yaml").write_text(json.dumps(content.pop("config")) + os.linesep)
    torch.save(content, tmp_path / "m.pt")
    code, message = run(tmp_path / "m.pt", tmp_path / "model")
    assert (code, "holds no configuration" in message) == (ExitCode.MODEL, True)
    assert run(tmp_path / "m.pt", tmp_path / "model", "-c", tmp_path / "old.yaml")[0] == ExitCode.DONE
    (tmp_path / "old.yaml").write_text("other: 1\n")
    code, message = run(tmp_path / "m.pt", tmp_path / "model", "-c", tmp_path / "old.yaml")
    assert (code, "expected a section 'model'" in message) == (ExitCode.USAGE, True)
