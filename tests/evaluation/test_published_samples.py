"""Published estimates of real mixtures score what an independent computation says."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from polsess.evaluation import evaluate, open_estimates
from tests.conftest import shared
from tests.evaluation.corpora import open_folder

SETS = {"libri2mix_mossformer2": 8000, "echo2mix": 16000}


@pytest.mark.parametrize("name", SETS)
def test_published_estimates_score_their_anchors(name: str) -> None:
    folder = shared("audio/separation_samples")
    anchors: dict[str, dict[str, Any]] = {
        one["item"]: one["systems"]
        for one in json.loads((folder / "anchors.json").read_text())
        if one["set"] == name
    }
    assert anchors
    for system in open_estimates(folder / name):
        evaluation = evaluate(system, open_folder(folder / name, sample_rate=SETS[name]), metrics=["si_snr"])
        assert {row.identifier for row in evaluation.rows} == anchors.keys()
        for row in evaluation.rows:
            expected = anchors[row.identifier][system.name]
            assert list(row.scores.permutation) == expected["perm"]
            for column in ("si_snr", "si_snri"):
                np.testing.assert_allclose(row.scores.values[column], expected[column], atol=0.01)
