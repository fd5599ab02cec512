"""LSTM-TasNet's options against a step-by-step computation, causality, sizes and bad input."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from polsess.models import create_model
from polsess.models.layers.masks import activate_masks
from polsess.models.layers.norms import NormName
from polsess.models.lstm_tasnet import LSTMTasNet
from polsess.schema import ConfigError
from tests.models.dual_path_naive import normalise, randomise

SMALL: dict[str, Any] = {"num_filters": 6, "kernel_size": 6, "hidden_size": 4, "num_layers": 2}


def make(**options: Any) -> LSTMTasNet:
    model = create_model("lstmtasnet", **{**SMALL, **options}).eval().double()
    assert isinstance(model, LSTMTasNet)
    randomise(model)
    return model


def naive(model: LSTMTasNet, mixture: Tensor) -> Tensor:
    """One item, frame by frame."""
    kernel, hop = model.config.kernel_size, model.hop_length
    starts = range(0, len(mixture) - kernel + 1, hop)
    frames = torch.stack([mixture[start : start + kernel] for start in starts], 1)  # [kernel, L]
    filters, gates = model.encoder.conv.weight[:, 0], model.encoder.gate.weight[:, 0]
    features = (filters @ frames).relu() * (gates @ frames).sigmoid()
    norm: NormName = "gLN" if model.config.bidirectional else "cgLN"
    normed = normalise(features[:, None], norm, model.norm)[:, 0]
    hidden = model.rnn(normed.T.unsqueeze(1)).squeeze(1)
    logits = model.to_masks(hidden).T.unflatten(0, (model.output_sources, -1))
    masks = activate_masks(logits[None], model.config.mask_activation)[0]
    estimate = mixture.new_zeros(model.output_sources, (len(starts) - 1) * hop + kernel)
    for index, start in enumerate(starts):
        masked = masks[:, :, index] * features[:, index]
        estimate[:, start : start + kernel] += masked @ model.decoder.conv.weight[:, 0]
    return estimate


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_sources": 1, "bidirectional": False},
        {"num_sources": 3, "mask_activation": "softmax", "stride": 2},
        {"mask_activation": "frame_softmax", "kernel_size": 7},
        {"mask_activation": "relu", "num_layers": 1, "dropout": 0.0, "kernel_size": 2},
    ],
    ids=str,
)
def test_options_equal_the_definition(options: dict[str, Any]) -> None:
    model = make(**options)
    mixtures = torch.randn(2, 61, dtype=torch.float64)
    with torch.no_grad():
        expected = torch.stack([naive(model, mixture) for mixture in mixtures])
        torch.testing.assert_close(model.estimate_sources(mixtures), expected, rtol=1e-7, atol=1e-7)


def test_forward_networks_do_not_see_beyond_one_filter() -> None:
    model = make(bidirectional=False)
    assert model.causal
    assert model.look_ahead_samples == 5
    original = torch.randn(1, 200, dtype=torch.float64)
    changed = original.clone()
    changed[:, 100:] += 1.0
    with torch.no_grad():
        difference = (model(changed) - model(original)).abs().amax((0, 1))
    assert difference[:95].max() < 1e-9
    assert difference[100:].max() > 1e-6
    assert not make().causal
    assert not make(bidirectional=False, mask_activation="frame_softmax").causal
    assert make().look_ahead_samples is None


@pytest.mark.parametrize(("preset", "size"), [(None, 21400832), ("whamr", 32588288)])
def test_published_sizes(preset: str | None, size: int) -> None:
    with torch.device("meta"):
        model = create_model("lstmtasnet", preset=preset)
    assert sum(parameter.numel() for parameter in model.parameters()) == size


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stride": 7}, "stride 7 skips samples"),
        ({"num_layers": 1}, "with num_layers 1 set it to 0"),
        ({"rnn_type": "GRU"}, "unknown key"),
    ],
)
def test_contradictions_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(**options)
