from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import polsess.dependencies
from polsess.cli.main import app
from polsess.config import parse_config
from polsess.training.run import train

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def test_weights_and_biases_gets_the_run_offline_and_goes_on_with_it(
    experiment: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    for epochs in (1, 2):
        experiment["training"] |= {"trackers": ["wandb"], "max_epochs": epochs, "log_every_steps": 1}
        train(parse_config(experiment), tmp_path / "run", resume=epochs > 1, progress=False)
    identifier = (tmp_path / "run" / "wandb.id").read_text().strip()
    logged = sorted((tmp_path / "run" / "wandb").glob(f"offline-run-*-{identifier}"))
    assert len(logged) == 2
    content = b"".join(path.read_bytes() for path in logged[0].glob("*.wandb"))
    for name in (b"val_si_snri", b"gradient_norm", b"plateau_patience"):
        assert name in content


def test_a_missing_tracker_names_its_extra_before_anything_starts(
    experiment: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polsess.dependencies, "is_installed", lambda package: package != "wandb")
    (tmp_path / "a.yaml").write_text(json.dumps(experiment))
    command = [
        "train",
        "-c",
        str(tmp_path / "a.yaml"),
        "training.trackers=[wandb]",
        "-o",
        str(tmp_path / "run"),
    ]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 1
    assert "training.trackers: [wandb] needs wandb. Run: pip install -e '.[wandb]'" in result.output
    assert not (tmp_path / "run" / "checkpoints").exists()
    unknown = CliRunner().invoke(app, [*command[:3], "training.trackers=[mlflow]"])
    assert unknown.exit_code == 2
    assert "training.trackers.0" in unknown.output
