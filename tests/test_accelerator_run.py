"""The command for a borrowed GPU, run on the CPU with a minute's time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from polsess.models import SeparationModel, list_models

MINI = Path(__file__).parent / "data" / "polsess_mini"
SCRIPT = Path(__file__).parents[1] / "scripts" / "accelerator_run.py"


@pytest.mark.slow
def test_everything_is_measured_and_the_training_goes_on(tmp_path: Path) -> None:
    options = [
        f"data.corpus.root={MINI}",
        "data.corpus.segment_seconds=0.5",
        "model.preset=tiny",
        "data.num_workers=0",
    ]
    command = [sys.executable, str(SCRIPT), str(tmp_path / "out"), "--device", "cpu", "--preset", "tiny"]
    command += ["--minutes", "4", "-c", "convtasnet_sb_polsess", *options, "training.max_epochs=100000"]
    for _ in range(2):
        subprocess.run(command, check=True, timeout=600, env=os.environ | {"OMP_NUM_THREADS": "1"})
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert set(results["parity"]) == set(list_models(SeparationModel))
    for name, line in results["parity"].items():
        assert line["float32"] < 1e-3, name
    assert results["scan"]["pytorch"]["error"] < 1e-5
    assert results["speed"]
    epochs = (tmp_path / "out" / "training" / "metrics.csv").read_text().splitlines()
    assert len(epochs) > 2
