"""SR-CorrNet beyond the contract: published sizes, counted speakers, levels, and inference in blocks."""

from __future__ import annotations

import pytest
import torch

from polsess.models import SeparationModel, create_model
from polsess.models.base import SpeakerCounts
from polsess.models.layers import gated_attention


@pytest.mark.parametrize(
    ("preset", "number"),
    [
        ("small", 6_992_883),
        ("base", 13_569_303),
        ("base_3speakers", 13_963_159),
        ("large", 36_049_658),
        ("variable_3", 14_031_512),
        ("variable_5", 14_031_768),
        ("whamr", 14_876_619),
    ],
)
def test_published_sizes(preset: str, number: int) -> None:
    with torch.device("meta"):
        model = create_model("srcorrnet", preset=preset)
    assert sum(parameter.numel() for parameter in model.parameters()) == number


def test_estimates_behind_the_count_are_silent(counting: SeparationModel) -> None:
    mixture = torch.randn(2, 700)
    with torch.no_grad():
        estimates, counts = counting.separate_counted(mixture)
        assert counts is not None
        assert counts.numbers.tolist() == [0, 0]
        assert not estimates.any()
        given, _ = counting.separate_counted(mixture, torch.tensor([1, 3]))
    assert given[0, 0].any()
    assert not given[0, 1:].any()
    assert given[1].any(-1).all()


def test_one_number_for_all_and_numbers_out_of_range(counting: SeparationModel) -> None:
    with torch.no_grad():
        estimates, _ = counting.separate_counted(torch.randn(2, 700), 2)
    assert estimates.any(-1).tolist() == [[True, True, False]] * 2
    for number in (-1, 4):
        with pytest.raises(ValueError, match="num_speakers: expected 0 to 3"):
            counting.separate_counted(torch.randn(2, 700), number)
    fixed = create_model("srcorrnet", preset="tiny")
    with pytest.raises(ValueError, match="SRCorrNet separates 2 sources, always; leave it out"):
        fixed.separate_counted(torch.randn(1, 700), 1)


def test_items_of_a_batch_do_not_see_each_other(counting: SeparationModel) -> None:
    mixture = torch.randn(2, 700)
    with torch.no_grad():
        both, _ = counting.separate_counted(mixture, torch.tensor([2, 1]))
        second, _ = counting.separate_counted(mixture[1:], 1)
    torch.testing.assert_close(both[1:], second, rtol=1e-4, atol=1e-5)


def test_probabilities_of_the_counts_sum_to_one() -> None:
    counts = SpeakerCounts.from_presence(torch.tensor([[0.9, 0.8, 0.1, 0.6]]), 3)
    assert counts.numbers.tolist() == [3]
    assert counts.probabilities.shape == (1, 4)
    torch.testing.assert_close(counts.probabilities.sum(-1), torch.ones(1))
    # Nobody: 0.1 * 0.2 * 0.9 * 0.4; three or four: the products of the rest.
    torch.testing.assert_close(counts.probabilities[0, 0], torch.tensor(0.0072))
    three = 0.9 * 0.8 * 0.1 * 0.4 + 0.9 * 0.8 * 0.9 * 0.6 + 0.9 * 0.2 * 0.1 * 0.6 + 0.1 * 0.8 * 0.1 * 0.6
    torch.testing.assert_close(counts.probabilities[0, 3], torch.tensor(three + 0.9 * 0.8 * 0.1 * 0.6))


@pytest.mark.parametrize("variable", [False, True])
def test_training_sees_all_sources_and_an_estimate_of_every_stage(variable: bool) -> None:
    model = create_model(
        "srcorrnet", preset="tiny", num_sources=3, num_decoder_blocks=2, variable_sources=variable
    )
    estimates, auxiliary = model.train().forward_with_auxiliary(torch.randn(1, 700))
    assert [each.shape for each in (estimates, *auxiliary)] == [(1, 3, 700)] * 3
    sum(each.square().sum() for each in (estimates, *auxiliary)).backward()  # type: ignore[union-attr]
    trained = {
        name
        for name, each in model.named_parameters()
        if each.requires_grad and not name.startswith("split.presence")
    }
    assert all(dict(model.named_parameters())[name].grad is not None for name in trained)


def test_the_level_passes_through() -> None:
    model, mixture = create_model("srcorrnet", preset="tiny").eval(), torch.randn(1, 700)
    with torch.no_grad():
        torch.testing.assert_close(model(100 * mixture), 100 * model(mixture), rtol=1e-3, atol=1e-2)


def test_silence_stays_silent() -> None:
    model = create_model("srcorrnet", preset="tiny", n_fft=64).eval()
    with torch.no_grad():
        assert not model(torch.zeros(1, 900)).any()


def test_inference_in_blocks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model, mixture = create_model("srcorrnet", preset="tiny").eval(), torch.randn(2, 1500)
    with torch.no_grad():
        whole = model(mixture)
        monkeypatch.setattr(gated_attention, "MAX_NUMBERS", 2000)
        torch.testing.assert_close(model(mixture), whole, rtol=1e-4, atol=1e-5)
