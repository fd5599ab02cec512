from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from polsess.models.layers.dilated import DilatedDepthwiseConv, dilated_depthwise_conv

BORDERS = [(0, 0), (4, 4), (8, 0), (12, -4), (3, 9), (40, -30)]


def library(features: Tensor, weight: Tensor, bias: Tensor | None, left: int, right: int) -> Tensor:
    return F.conv1d(F.pad(features, (left, right)), weight, bias, dilation=4, groups=len(weight))


@pytest.mark.parametrize("num_frames", [9, 50])
@pytest.mark.parametrize(("left", "right"), BORDERS)
@pytest.mark.parametrize("with_bias", [True, False])
def test_the_library_agrees(num_frames: int, left: int, right: int, with_bias: bool) -> None:
    if num_frames < 10:
        right = max(right, -4)  # the library cannot crop its own padding
    features = torch.randn(2, 5, num_frames, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(5, 1, 3, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(5, dtype=torch.float64, requires_grad=True) if with_bias else None
    inputs = [each for each in (features, weight, bias) if each is not None]
    output = dilated_depthwise_conv(features, weight, bias, 4, left, right)
    expected = library(features, weight, bias, left, right)
    torch.testing.assert_close(output, expected)
    probe = torch.randn_like(expected)
    gradients = torch.autograd.grad(output, inputs, probe)
    torch.testing.assert_close(gradients, torch.autograd.grad(expected, inputs, probe))


def test_even_filters_and_many_taps() -> None:
    for taps in (2, 4, 21):
        features, weight = torch.randn(1, 3, 60), torch.randn(3, 1, taps)
        output = dilated_depthwise_conv(features, weight, None, 2, taps - 1, taps - 1)
        expected = F.conv1d(F.pad(features, (taps - 1, taps - 1)), weight, dilation=2, groups=3)
        torch.testing.assert_close(output, expected)


def test_reflection_mirrors_the_borders() -> None:
    conv = DilatedDepthwiseConv(4, 3, dilation=5, left=5, right=5, reflect=True)
    features = torch.randn(2, 4, 12)
    mirrored = F.pad(features, (5, 5), "reflect")
    expected = F.conv1d(mirrored, conv.weight, conv.bias, dilation=5, groups=4)
    torch.testing.assert_close(conv(features), expected)


def test_autocast_takes_the_library_in_training() -> None:
    conv = DilatedDepthwiseConv(4, 3, dilation=2, left=2, right=2)
    features = torch.randn(1, 4, 30)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert conv(features).dtype == torch.bfloat16
        with torch.no_grad():  # where copies to and fro would take longest
            assert conv(features).dtype == torch.float32
            assert conv(features.bfloat16()).dtype == torch.bfloat16
