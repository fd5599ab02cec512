from __future__ import annotations

import math
from typing import get_args

import pytest
import torch

from polsess.models.layers.masks import MaskActivation, MaskNonlinearity, activate_masks


def test_softmax_runs_over_the_sources() -> None:
    masks = activate_masks(torch.randn(2, 3, 4, 5), "softmax")
    torch.testing.assert_close(masks.sum(1), torch.ones(2, 4, 5))


def test_softmax_of_a_single_source_is_weighed_against_a_rest() -> None:
    logits = torch.randn(2, 1, 4, 5)
    pair = torch.cat([logits, torch.zeros_like(logits)], 1).softmax(1)[:, :1]
    torch.testing.assert_close(activate_masks(logits, "softmax"), pair)


@pytest.mark.parametrize(("activation", "axis"), [("filter_softmax", 2), ("frame_softmax", 3)])
def test_softmax_of_published_weights(activation: MaskActivation, axis: int) -> None:
    masks = activate_masks(torch.randn(2, 3, 4, 5), activation)
    torch.testing.assert_close(masks.sum(axis), torch.ones_like(masks.sum(axis)))


@pytest.mark.parametrize(
    ("activation", "at_one", "at_minus_one"),
    [
        ("linear", 1.0, -1.0),
        ("relu", 1.0, 0.0),
        ("leaky_relu", 1.0, -0.01),
        ("gelu", 0.5 * (1 + math.erf(0.5**0.5)), -0.5 * (1 - math.erf(0.5**0.5))),
        ("silu", 1 / (1 + math.exp(-1)), -1 / (1 + math.exp(1))),
        ("sigmoid", 1 / (1 + math.exp(-1)), 1 / (1 + math.exp(1))),
        ("tanh", math.tanh(1), -math.tanh(1)),
        ("ones", 1.0, 1.0),
    ],
)
def test_elementwise(activation: MaskActivation, at_one: float, at_minus_one: float) -> None:
    masks = activate_masks(torch.tensor([1.0, -1.0]).view(1, 1, 1, 2), activation)
    torch.testing.assert_close(masks.flatten(), torch.tensor([at_one, at_minus_one]))


def test_every_word_is_understood() -> None:
    for activation in get_args(MaskActivation):
        logits = torch.randn(1, 2, 3, 4)
        masks = MaskNonlinearity(activation)(logits)
        assert masks.shape == (1, 2, 3, 4)
        if activation == "prelu":
            torch.testing.assert_close(masks, torch.where(logits > 0, logits, 0.25 * logits))
        else:
            assert torch.equal(masks, activate_masks(logits, activation))
