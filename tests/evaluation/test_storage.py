from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from polsess.checkpoints import save_model
from polsess.evaluation import SavedEvaluation, evaluate, open_estimates, open_models
from polsess.metrics import score_utterance
from polsess.models import create_model
from tests.evaluation.corpora import VOICES, halves, open_folder, write_estimates, write_items

FAST = ["si_snr"]


def test_a_model_is_run_again(tmp_path: Path) -> None:
    save_model(create_model("blstm", preset="tiny"), tmp_path / "model")
    (system,) = open_models([str(tmp_path / "model")], "cpu")
    evaluation = evaluate(
        system, open_folder(write_items(tmp_path / "data")), metrics=FAST, folder=tmp_path / "out"
    )
    assert evaluation.origin["model"] == str(tmp_path / "model")
    assert evaluation.origin["parameters"] > 1000
    assert all(row.separation_seconds > 0 for row in evaluation.rows)
    assert {"separation", "si_snr"} == evaluation.seconds_per_utterance.keys()
    heard = SavedEvaluation(tmp_path / "out", "cpu").sounds("item2")
    again = score_utterance(heard.estimates, heard.references, heard.mixture, heard.sample_rate, FAST)
    assert again.permutation == (0, 1)  # they come in the order of the references
    assert again.mean("si_snr") == pytest.approx(evaluation.rows[2].value("si_snr"), abs=1e-4)
    with pytest.raises(ValueError, match="no utterance 'item9'"):
        SavedEvaluation(tmp_path / "out").sounds("item9")
    save_model(create_model("blstm", preset="tiny"), tmp_path / "model")
    with pytest.raises(ValueError, match="is another model now"):
        SavedEvaluation(tmp_path / "out", "cpu").sounds("item0")


def test_kept_estimates_need_no_model(tmp_path: Path) -> None:
    corpus = open_folder(write_items(tmp_path / "data"))
    evaluation = evaluate(halves(), corpus, metrics=FAST, folder=tmp_path / "out", save_estimates=True)
    heard = SavedEvaluation(tmp_path / "out").sounds("item1")
    expected = corpus.example(0, 1).mixture.numpy() / 2
    own = heard.estimates[evaluation.rows[1].scores.permutation.index(0)]
    np.testing.assert_array_equal(own, expected)  # 32-bit floats, nothing is rounded


def test_estimates_in_files_are_found_again(tmp_path: Path) -> None:
    corpus = open_folder(VOICES)
    (system,) = open_estimates(write_estimates(VOICES, tmp_path / "estimates"), ["system"])
    evaluation = evaluate(system, corpus, metrics=FAST, folder=tmp_path / "out")
    heard = SavedEvaluation(tmp_path / "out").sounds(evaluation.rows[0].identifier)
    assert heard.estimates.shape == heard.references.shape
    assert np.isnan(evaluation.rows[0].separation_seconds)


def test_what_cannot_be_heard_is_said(tmp_path: Path) -> None:
    folder = write_items(tmp_path / "data")
    corpus = open_folder(folder)
    gone = (folder / "item3" / "s2.wav").rename(tmp_path / "s2.wav")
    evaluate(halves(), corpus, metrics=FAST, folder=tmp_path / "out")
    failed = SavedEvaluation(tmp_path / "out").evaluation.rows[3].identifier
    with pytest.raises(ValueError, match=r"has no estimates \(.*s2\.wav: there is no such file"):
        SavedEvaluation(tmp_path / "out").sounds(failed)
    with pytest.raises(FileExistsError, match="scores without estimates"):
        evaluate(halves(), corpus, metrics=FAST, folder=tmp_path / "out", save_estimates=True)
    gone.rename(folder / "item3" / "s2.wav")
    with pytest.raises(ValueError, match="evaluate with --save-estimates"):
        SavedEvaluation(tmp_path / "out").sounds("item0")
    (folder / "item0" / "s1.wav").write_bytes((folder / "item0" / "s2.wav").read_bytes())
    with pytest.raises(ValueError, match="the data has changed"):
        SavedEvaluation(tmp_path / "out").sounds("item0")
