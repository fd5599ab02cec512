"""TF-Locoformer's options against a step-by-step computation, sizes and bad input."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from polsess.models import create_model
from polsess.models.layers.norms import RMSGroupNorm
from polsess.models.layers.positions import RotaryRates
from polsess.models.tflocoformer import (
    Axis,
    ConvFeedForward,
    LocoformerPath,
    RotaryAttention,
    TFLocoformerConfig,
    create_norm,
)
from polsess.schema import ConfigError


def config(**changes: Any) -> TFLocoformerConfig:
    sizes = {"num_channels": 8, "num_heads": 2, "num_groups": 2, "attention_size": 12}
    return TFLocoformerConfig(**{"ffn_hidden_sizes": (5, 7), "kernel_size": 3, **sizes, **changes})


def naive_feed_forward(layer: ConvFeedForward, row: Tensor) -> Tensor:
    """``[S, D]``: every window of the zero-padded row, its contribution added where it lies."""
    kernel, stride = layer.conv.kernel_size[0], layer.conv.stride[0]
    overlap = kernel - stride
    length = math.ceil((len(row) + 2 * overlap - kernel) / stride) * stride + kernel
    padded = F.pad(row, (0, 0, overlap, length - len(row) - overlap))
    total = padded.new_zeros(padded.shape)
    for start in range(0, length - kernel + 1, stride):
        assert layer.conv.bias is not None
        features = torch.einsum("kd,odk->o", padded[start : start + kernel], layer.conv.weight)
        features = features + layer.conv.bias
        if layer.gated:
            linear, gate = features.chunk(2)
            features = linear * gate * gate.sigmoid()
        else:
            features = features * features.sigmoid()
        total[start : start + kernel] += torch.einsum("o,odk->kd", features, layer.deconv.weight)
    assert layer.deconv.bias is not None
    return (total + layer.deconv.bias)[overlap : overlap + len(row)]


def rows(grid: Tensor, axis: Axis) -> Tensor:
    return grid if axis == "frequency" else grid.transpose(1, 2)


@pytest.mark.parametrize("axis", ["frequency", "time"])
@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 1), (4, 3), (3, 3)])
def test_a_feed_forward_is_its_definition(axis: Axis, gated: bool, kernel: int, stride: int) -> None:
    layer = ConvFeedForward(config(kernel_size=kernel, stride=stride, ffn_gated=gated), 5, axis).double()
    grid = torch.randn(2, 6, 5, 8, dtype=torch.float64)
    with torch.no_grad():
        found = rows(layer(grid), axis)
        for item in range(2):
            for index, row in enumerate(rows(grid, axis)[item]):
                torch.testing.assert_close(found[item, index], naive_feed_forward(layer, row))


@pytest.mark.parametrize("axis", ["frequency", "time"])
@pytest.mark.parametrize("hidden_sizes", [(5, 7), (6,)])
def test_a_path_is_its_definition(axis: Axis, hidden_sizes: tuple[int, ...]) -> None:
    chosen = config(ffn_hidden_sizes=hidden_sizes)
    attention = RotaryAttention(chosen, RotaryRates(6))
    path = LocoformerPath(chosen, axis, attention).double()
    grid = torch.randn(2, 6, 5, 8, dtype=torch.float64)
    with torch.no_grad():
        expected = grid + path.ffn_before(grid) if path.ffn_before is not None else grid
        normed = rows(path.attention_norm(expected), axis)
        attended = torch.stack([naive_attention(attention, row) for row in normed.flatten(0, 1)])
        expected = expected + rows(attended.view(normed.shape), axis)
        expected = expected + path.ffn_after(expected)
        torch.testing.assert_close(path(grid), expected)


def naive_attention(attention: RotaryAttention, row: Tensor) -> Tensor:
    """``[S, D]``: pairs of features as complex numbers, turned by their position."""
    query, key, value = attention.to_qkv(row).unflatten(-1, (3, 2, 6)).unbind(1)  # [S, H, E]
    rates = 10000.0 ** (-torch.arange(0, 6, 2) / 6.0)
    turns = torch.polar(torch.ones(len(row), 3), torch.arange(len(row))[:, None] * rates)[:, None]
    query, key = (torch.view_as_complex(x.unflatten(-1, (3, 2))) * turns for x in (query, key))
    scores = torch.einsum("shp,thp->hst", query, key.conj()).real / math.sqrt(6)
    heads = torch.einsum("hst,the->she", scores.softmax(-1).to(value.dtype), value)
    return attention.to_output(heads.flatten(1))


def test_rms_group_norm_is_its_definition() -> None:
    norm = RMSGroupNorm(6, 3, eps=0.1)
    with torch.no_grad():
        norm.weight.add_(torch.randn(6))
        features = torch.randn(4, 6)
        for row, found in zip(features, norm(features), strict=True):
            for group in range(3):
                part = row[2 * group : 2 * group + 2]
                level = part.square().mean().sqrt() + 0.1  # outside the root
                expected = part / level * norm.weight[2 * group : 2 * group + 2]
                torch.testing.assert_close(found[2 * group : 2 * group + 2], expected)


def test_layernorm_is_the_other_norm() -> None:
    norm = create_norm(config(norm_type="layernorm", num_groups=1, eps=1e-3))
    assert isinstance(norm, torch.nn.LayerNorm)
    assert norm.eps == 1e-3


def test_the_order_of_the_axes() -> None:
    model = create_model("tflocoformer", preset="tiny", axis_order="time_first")
    axes = [path.axis for path in model.modules() if isinstance(path, LocoformerPath)]
    assert axes == ["time", "frequency"] * 2


def test_dropout_acts_in_training_only() -> None:
    model = create_model("tflocoformer", preset="tiny", dropout=0.5)
    mixture = torch.randn(1, 500)
    with torch.no_grad():
        assert not torch.equal(model(mixture), model(mixture))
        model.eval()
        assert torch.equal(model(mixture), model(mixture))


@pytest.mark.parametrize(
    ("preset", "size"),
    [("small", 5_125_252), ("medium", 14_975_652), ("large", 22_459_812), ("whamr", 14_966_436)],
)
def test_published_sizes(preset: str, size: int) -> None:
    with torch.device("meta"):
        model = create_model("tflocoformer", preset=preset)
    assert sum(parameter.numel() for parameter in model.parameters()) == size


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_groups": 3}, "multiple of num_groups"),
        ({"norm_type": "layernorm"}, "write num_groups=1"),
        ({"attention_size": 6}, "even number for each"),
        ({"stride": 5}, "at most kernel_size"),
        ({"ffn_hidden_sizes": []}, "one or two positive numbers"),
        ({"ffn_hidden_sizes": [4, 4, 4]}, "one or two positive numbers"),
        ({"ffn_hidden_sizes": [4, 0]}, "one or two positive numbers"),
        ({"hop_length": 30}, "at most half"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        create_model("tflocoformer", preset="tiny", **changes)


@pytest.mark.parametrize(
    ("preset", "number"), [("focused_medium", 15_082_004), ("focused_large", 22_619_348)]
)
def test_published_sizes_with_focused_attention(preset: str, number: int) -> None:
    with torch.device("meta"):
        model = create_model("tflocoformer", preset=preset)
    assert sum(parameter.numel() for parameter in model.parameters()) == number


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attentions": ()}, "attentions: expected at least one"),
        ({"axes": ()}, "axes: expected 1 to 64"),
        ({"focused_kernel_size": 4}, "focused_kernel_size=4: expected an odd number or 0"),
        ({"focused_norm_groups": 3}, "focused_norm_groups=3 must divide the 8 channels"),
    ],
)
def test_options_of_focused_attention_that_do_not_fit(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(**changes)


def test_focused_attention_of_silence_and_of_a_long_mixture_is_finite() -> None:
    model = create_model("tflocoformer", preset="tiny", attentions=("focused",), focused_kernel_size=0).eval()
    with torch.no_grad():
        assert model(torch.zeros(1, 400)).isfinite().all()
        assert model(1e4 * torch.randn(1, 4000)).isfinite().all()
