"""Published estimates of real recordings score what an independent computation says."""

from __future__ import annotations

import json

import numpy as np

from polsess.evaluation import evaluate
from polsess.evaluation.systems import open_estimates
from tests.evaluation.corpora import ESTIMATES, RECORDINGS, open_folder


def test_published_estimates_score_their_anchors() -> None:
    anchors = json.loads((ESTIMATES / "anchors.json").read_text())
    (system,) = open_estimates(ESTIMATES)
    assert system.name == "mossformer2"
    evaluation = evaluate(system, open_folder(RECORDINGS), metrics=["si_snr"])
    assert {row.identifier for row in evaluation.rows} == anchors.keys()
    for row in evaluation.rows:
        expected = anchors[row.identifier]
        assert list(row.scores.permutation) == expected["permutation"]
        for column in ("si_snr", "si_snri"):
            np.testing.assert_allclose(row.scores.values[column], expected[column], atol=0.01)
