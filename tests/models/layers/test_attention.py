"""Transformer layers against ``torch.nn`` and the equations; positions against the formula."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from polsess.models.layers.attention import TransformerLayer, TransformerStack
from polsess.models.layers.positions import sinusoidal_positions
from tests.models.naive_transformers import transformer


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_a_layer_equals_torch(norm_first: bool, activation: str) -> None:
    ours = TransformerLayer(12, 3, 20, activation=activation, norm_first=norm_first, eps=1e-3)  # type: ignore[arg-type]
    theirs = nn.TransformerEncoderLayer(
        12, 3, 20, 0.0, activation, 1e-3, batch_first=True, norm_first=norm_first
    )
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    theirs.load_state_dict(
        {
            "self_attn.in_proj_weight": ours.attention.qkv.weight,
            "self_attn.in_proj_bias": ours.attention.qkv.bias,
            "self_attn.out_proj.weight": ours.attention.out.weight,
            "self_attn.out_proj.bias": ours.attention.out.bias,
            "linear1.weight": ours.feed_forward.expand.weight,
            "linear1.bias": ours.feed_forward.expand.bias,
            "linear2.weight": ours.feed_forward.reduce.weight,
            "linear2.bias": ours.feed_forward.reduce.bias,
            "norm1.weight": ours.attention_norm.weight,
            "norm1.bias": ours.attention_norm.bias,
            "norm2.weight": ours.feed_forward_norm.weight,
            "norm2.bias": ours.feed_forward_norm.bias,
        }
    )
    tokens = torch.randn(4, 9, 12)
    expected = theirs.train()(tokens)
    torch.testing.assert_close(ours(tokens), expected, rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(tokens), expected, rtol=1e-5, atol=1e-5)


def test_a_causal_stack_equals_the_loops_and_ignores_the_future() -> None:
    stack = TransformerStack(2, 8, 2, 16, causal=True).double()
    tokens = torch.randn(1, 11, 8, dtype=torch.float64)
    result = stack(tokens)
    expected = transformer(tokens[0], stack, norm_first=True, activation="relu", pe=True, causal=True)
    torch.testing.assert_close(result[0], expected, rtol=1e-9, atol=1e-9)
    tokens[:, 6:] += 1.0
    assert torch.equal(stack(tokens)[:, :6], result[:, :6])


def test_new_layers_start_as_attention_should() -> None:
    layer = TransformerLayer(64, 4, 128)
    assert not layer.attention.qkv.bias.any()
    assert not layer.attention.out.bias.any()
    bound = math.sqrt(6.0 / (64 + 3 * 64))
    assert 0.95 * bound < layer.attention.qkv.weight.abs().max() <= bound


def test_positions_follow_the_formula_at_any_length() -> None:
    table = sinusoidal_positions(30_000, 6)
    assert table.shape == (30_000, 6)
    for row in (0, 1, 2499, 2501, 29_999):
        for pair in range(3):
            angle = row / 10000 ** (2 * pair / 6)
            found = table[row, 2 * pair : 2 * pair + 2].double()
            expected = torch.tensor([math.sin(angle), math.cos(angle)], dtype=torch.float64)
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-7 * max(10, row))
    assert torch.equal(
        sinusoidal_positions(2500, 6), table[:2500]
    )  # a longer table begins like a shorter one
    assert torch.equal(sinusoidal_positions(9, 6, dtype=torch.float64), table[:9].double())
    with pytest.raises(ValueError, match="even number of features, got 5"):
        sinusoidal_positions(10, 5)
