from __future__ import annotations

import json
import math
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file

from polsess.dependencies import is_installed
from polsess.metrics import Scores, perceptual, resolve_metrics, score_utterance
from polsess.metrics.scores import columns_of
from polsess.schema import ConfigError
from tests.conftest import GOLDEN

Signals = NDArray[np.float64]

CASES = json.loads((GOLDEN / "metrics" / "meta.json").read_text())["cases"]
SIGNALS = load_file(GOLDEN / "metrics" / "io.safetensors")
FAST = ("si_snr", "sdr", "sir")


def case_parameters(*keys: str) -> list[Any]:
    return [pytest.param(case, id=case["name"]) for case in CASES if all(key in case for key in keys)]


def signals_of(case: dict[str, Any], item: int) -> tuple[Signals, Signals, Signals]:
    estimate, reference, mixture = (
        SIGNALS[f"{case['name']}.{kind}"][item] for kind in ("estimate", "reference", "mixture")
    )
    return estimate, reference, mixture


def speech_like(num_sources: int = 2, num_samples: int = 4000, seed: int = 0) -> Signals:
    random = np.random.default_rng(seed)
    envelope = np.abs(np.sin(np.arange(num_samples) / random.uniform(400, 900, (num_sources, 1))))
    return envelope * np.cumsum(random.normal(size=(num_sources, num_samples)), -1) * 1e-3


def noisy(references: Signals, level: float = 0.1, seed: int = 1) -> Signals:
    noise = np.random.default_rng(seed).normal(size=references.shape)
    return references + level * references.std(-1, keepdims=True) * noise


@pytest.mark.parametrize("case", case_parameters())
def test_ratios_equal_the_field_s_toolkits(case: dict[str, Any]) -> None:
    metrics = FAST if len(case["permutation"][0]) < 4 else FAST[:2]  # the joint filters of four are slow
    for item, expected in enumerate(case["bss_eval"]):
        scores = score_utterance(*signals_of(case, item), case["sample_rate"], metrics)
        assert list(scores.permutation) == case["permutation"][item]
        np.testing.assert_allclose(scores.values["si_snr"], case["si_snr"][item], atol=1e-4)
        np.testing.assert_allclose(scores.values["si_snr_mixture"], case["si_snr_mixture"][item], atol=1e-3)
        for column in {"sdr", "sir", "sar"} & scores.values.keys():
            np.testing.assert_allclose(
                scores.values[column], np.minimum(expected[column], 100), atol=1e-4, err_msg=column
            )
        improvement = np.subtract(expected["sdr"], case["sdr_mixture"][item])
        np.testing.assert_allclose(scores.values["sdri"], improvement, atol=1e-4)


@pytest.mark.skipif(not is_installed("pesq"), reason="pesq is not installed")
@pytest.mark.parametrize("case", case_parameters("pesq"))
def test_pesq_equals_the_package(case: dict[str, Any]) -> None:
    estimates, references, _ = signals_of(case, 0)
    for estimate, reference, expected in zip(estimates, references, case["pesq"][0], strict=True):
        score = perceptual.pesq(estimate, reference, case["sample_rate"])
        assert score == pytest.approx(expected, abs=1e-3)
        assert perceptual.pesq(1e-4 * estimate, reference, case["sample_rate"]) == pytest.approx(
            score, abs=1e-2
        )


@pytest.mark.parametrize("case", case_parameters("stoi"))
def test_stoi_equals_the_package(case: dict[str, Any]) -> None:
    estimates, references, _ = signals_of(case, 0)
    rows = zip(estimates, references, case["stoi"][0], case["estoi"][0], strict=True)
    for estimate, reference, plain, extended in rows:
        rate = case["sample_rate"]
        assert perceptual.stoi(estimate, reference, rate) == pytest.approx(plain, abs=1e-3)
        assert perceptual.stoi(estimate, reference, rate, extended=True) == pytest.approx(extended, abs=1e-3)


def test_si_snr_by_its_definition() -> None:
    references = speech_like()
    estimates = noisy(references) * np.array([[0.3], [-2.0]]) + 0.01
    scores = score_utterance(estimates, references, references.sum(0), 8000, ["si_snr"])
    for estimate, reference, value in zip(estimates, references, scores.values["si_snr"], strict=True):
        estimate, reference = estimate - estimate.mean(), reference - reference.mean()
        target = (estimate @ reference) / (reference @ reference) * reference
        expected = 10 * np.log10((target @ target) / ((estimate - target) @ (estimate - target)))
        assert value == pytest.approx(expected, abs=1e-6)


def test_sdr_forgives_a_short_filter_and_si_snr_does_not() -> None:
    references = speech_like(num_samples=8000)
    taps = np.zeros(400)
    taps[[0, 50, 399]] = [1.0, 0.5, -0.4]
    filtered = np.stack([np.convolve(row, taps)[: len(row)] for row in references])
    # Faded out, so that no tail of the filter is cut off.
    references[:, -1000:] = filtered[:, -500:] = 0
    filtered = np.stack([np.convolve(row, taps)[: len(row)] for row in references])
    scores = score_utterance(filtered, references, references.sum(0), 8000, FAST)
    assert min(scores.values["sdr"]) > 60
    assert max(scores.values["si_snr"]) < 20


def test_interference_and_artefacts_tell_apart() -> None:
    references = np.random.default_rng(3).normal(size=(2, 6000))
    leaking = references + 0.1 * references[::-1]
    scores = score_utterance(leaking, references, references.sum(0), 8000, ["sdr", "sir"])
    np.testing.assert_allclose(scores.values["sir"], 20.0, atol=1.0)
    assert min(scores.values["sar"]) > 60
    scores = score_utterance(noisy(references), references, references.sum(0), 8000, ["sdr", "sir"])
    np.testing.assert_allclose(scores.values["sar"], 20.0, atol=1.5)
    assert min(scores.values["sir"]) > 28


@pytest.mark.parametrize("order", [*permutations(range(3)), (3, 0, 2, 1)])
def test_estimates_in_any_order_score_alike(order: tuple[int, ...]) -> None:
    references = speech_like(len(order))
    estimates = noisy(references)
    straight = score_utterance(estimates, references, references.sum(0), 8000, FAST)
    shuffled = score_utterance(estimates[list(order)], references, references.sum(0), 8000, FAST)
    assert [order[index] for index in shuffled.permutation] == list(range(len(order)))
    for column, values in straight.values.items():
        np.testing.assert_allclose(shuffled.values[column], values, atol=1e-8, err_msg=column)


def test_improvements_are_over_the_mixture_that_was_heard() -> None:
    references = speech_like()
    heard = references.sum(0) + 0.05 * np.random.default_rng(5).normal(size=references.shape[1])
    scores = score_utterance(noisy(references), references, heard, 8000, FAST)
    unprocessed = score_utterance(np.stack([heard, heard]), references, heard, 8000, FAST)
    for ratio in ("si_snr", "sdr"):
        improvement = np.subtract(scores.values[ratio], unprocessed.values[ratio])
        np.testing.assert_allclose(scores.values[f"{ratio}i"], improvement, atol=1e-9)
        np.testing.assert_allclose(unprocessed.values[f"{ratio}i"], 0, atol=1e-9)


@pytest.mark.parametrize("scale", [1e-4, -1.0, 1e3])
def test_level_and_sign_do_not_matter(scale: float) -> None:
    references = speech_like()
    estimates = noisy(references)
    expected = score_utterance(estimates, references, references.sum(0), 8000, FAST)
    scores = score_utterance(scale * estimates, references, references.sum(0), 8000, FAST)
    for column, values in expected.values.items():
        np.testing.assert_allclose(scores.values[column], values, atol=1e-6, err_msg=column)


def test_perfect_estimates_have_a_finite_ceiling() -> None:
    references = speech_like()
    scores = score_utterance(references, references, references.sum(0), 8000, FAST)
    assert scores.values["si_snr"] == scores.values["sdr"] == (100.0, 100.0)
    assert not scores.reasons


def with_row(signals: Signals, row: int, value: float) -> Signals:
    changed = signals.copy()
    changed[row] = value
    return changed


@pytest.mark.parametrize(
    ("broken", "value", "reason"),
    [
        ("reference", 0.0, "silent reference"),
        ("estimate", 0.0, "silent estimate"),
        ("both", 0.0, "silent reference"),
        ("estimate", 0.25, "constant estimate"),
        ("reference", 0.25, "constant reference"),
        ("estimate", math.nan, "non-finite estimate"),
        ("estimate", math.inf, "non-finite estimate"),
        ("reference", math.nan, "non-finite reference"),
        ("reference", 1e-30, "silent reference"),
    ],
)
def test_what_cannot_be_scored_has_a_reason(broken: str, value: float, reason: str) -> None:
    references = speech_like(3, 5000)
    estimates = noisy(references)[[1, 2, 0]]  # a cycle: its inverse is another permutation
    healthy = score_utterance(estimates, references, references.sum(0), 8000)
    mixture = references.sum(0)
    if broken in {"reference", "both"}:
        references = with_row(references, 2, value)
    if broken in {"estimate", "both"}:
        estimates = with_row(estimates, 1, value)
    scores = score_utterance(estimates, references, mixture, 8000)
    assert scores.permutation == (2, 0, 1)
    for column in columns_of(resolve_metrics(None)):
        assert math.isnan(scores.values[column][2])
        assert reason in scores.reasons[column]
        assert math.isnan(scores.mean(column))
    assert scores.values["si_snr"][:2] == pytest.approx(healthy.values["si_snr"][:2])


def test_near_silence_left_by_a_pause_is_not_speech() -> None:
    references = speech_like()
    estimates = noisy(references)
    references[0] *= 1e-4
    scores = score_utterance(estimates, references, references[1], 8000, FAST)
    assert scores.reasons["si_snr"] == "almost silent reference"


def test_a_clean_mixture_has_nothing_to_improve() -> None:
    reference = speech_like(1)
    mixture = np.round(reference[0] * 32768) / 32768
    scores = score_utterance(noisy(reference), reference, mixture, 8000, ["si_snr", "sdr"])
    assert math.isnan(scores.mean("si_snri"))
    assert math.isnan(scores.mean("sdri"))
    assert "nothing to improve" in scores.reasons["si_snri"]
    assert scores.mean("si_snr") == pytest.approx(20, abs=2)


@pytest.mark.parametrize("num_samples", [1, 2, 511, 512, 513, 1500, 3000])
def test_short_signals_never_crash(num_samples: int) -> None:
    references = speech_like(2, 4000)[:, -num_samples:]
    scores = score_utterance(noisy(references), references, references.sum(0), 8000)
    for column, values in scores.values.items():
        assert (column in scores.reasons) == any(math.isnan(value) for value in values)
    assert math.isnan(scores.mean("sdr")) == (num_samples <= 512)
    assert math.isnan(scores.mean("stoi"))
    assert math.isnan(scores.mean("si_snr")) == (num_samples == 1)


def test_a_single_source_has_no_interference() -> None:
    references = speech_like(1)
    scores = score_utterance(noisy(references), references, noisy(references)[0], 8000, ["sir"])
    assert np.isnan(scores.values["sir"]).all()
    assert np.isfinite(scores.values["sar"]).all()
    assert "one source" in scores.reasons["sir"]


def test_references_that_copy_each_other_do_not_break_sir() -> None:
    one = speech_like(1)
    references = np.concatenate([one, 0.5 * one])
    scores = score_utterance(noisy(references), references, references.sum(0), 8000, FAST)
    assert np.isfinite(scores.values["sdr"]).all()
    assert not np.isnan(scores.values["sir"]).any()


def test_pesq_refuses_what_its_code_cannot_do() -> None:
    signal = speech_like(1, 16000)[0]
    with pytest.raises(perceptual.UndefinedScoreError, match="8 and 16 kHz"):
        perceptual.pesq(signal, signal, 44100)
    with pytest.raises(perceptual.UndefinedScoreError, match="longer than 60 s"):
        perceptual.pesq(np.zeros(8000 * 61), np.zeros(8000 * 61), 8000)


def test_one_source_takes_plain_waveforms_and_tensors() -> None:
    reference = speech_like(1)
    expected = score_utterance(noisy(reference), reference, 2 * reference[0], 8000, ["si_snr"])
    plain = score_utterance(
        torch.from_numpy(noisy(reference)[0]), reference[0], 2 * reference, 8000, ["si_snr"]
    )
    assert plain.values["si_snr"] == expected.values["si_snr"]


def test_wrong_shapes_and_names_are_errors() -> None:
    references = speech_like()
    with pytest.raises(ValueError, match=r"expected at least C estimates \[C, T\]"):
        score_utterance(references[:1], references, references.sum(0), 8000)
    with pytest.raises(ValueError, match="expected at least C estimates"):
        score_utterance(references, references, references.sum(0)[:-1], 8000)
    with pytest.raises(ConfigError, match="Did you mean 'pesq'"):
        score_utterance(references, references, references.sum(0), 8000, ["peqs"])


def test_a_missing_package_leaves_its_metric_out_or_says_how_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    references = speech_like()
    monkeypatch.setattr("polsess.metrics.scores.is_installed", lambda package: package != "pesq")
    monkeypatch.setattr("polsess.dependencies.is_installed", lambda package: package != "pesq")
    scores = score_utterance(references, references, references.sum(0), 8000)
    assert "pesq" not in scores.values
    assert "stoi" in scores.values
    with pytest.raises(ModuleNotFoundError, match=r"pip install -e '\.\[pesq\]'"):
        score_utterance(references, references, references.sum(0), 8000, ["pesq"])


def test_scores_average_sources_and_keep_the_missing_missing() -> None:
    scores = Scores({"sdr": (1.0, 3.0), "pesq": (2.0, math.nan)})
    assert scores.mean("sdr") == 2.0
    assert math.isnan(scores.mean("pesq"))


def test_of_more_estimates_than_references_the_best_are_scored() -> None:
    references = speech_like()
    mixture = references.sum(0)
    estimates = np.stack([0.1 * mixture, references[1], 0.001 * mixture, references[0]])
    scores = score_utterance(estimates, references, mixture, 8000, ["si_snr", "sdr", "sir"])
    assert scores.permutation == (3, 1)
    assert scores.mean("si_snr") == 100
    assert scores.unassigned_db == pytest.approx(-20)
    assert math.isnan(score_utterance(references, references, mixture, 8000, ["si_snr"]).unassigned_db)
    one = score_utterance(estimates, references[1], mixture, 8000, ["si_snr"])
    assert one.permutation == (1,)
