"""PReLU and its gradients against PyTorch's."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from polsess.models.layers.prelu import PReLU, prelu


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("num_slopes", [1, 3])
@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 5), (2, 3, 4, 5)])
def test_values_and_gradients_are_pytorchs(
    dtype: torch.dtype, num_slopes: int, shape: tuple[int, ...]
) -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(shape, generator=generator).to(dtype).requires_grad_()
    slope = torch.tensor([0.25, -0.5, 1.5][:num_slopes], dtype=dtype, requires_grad=True)
    gradient = torch.randn(shape, generator=generator).to(dtype)
    found, expected = prelu(features, slope), F.prelu(features, slope)
    assert torch.equal(found, expected)
    pairs = (torch.autograd.grad(each, (features, slope), gradient) for each in (found, expected))
    for own, other in zip(*pairs, strict=True):
        torch.testing.assert_close(own, other)


def test_the_layer_runs_under_autocast_and_is_exported_as_pytorchs() -> None:
    features, layer = torch.randn(2, 3, 5, requires_grad=True), PReLU(3)
    with torch.autocast("cpu", torch.bfloat16):
        found, expected = layer(features), nn.PReLU(3)(features)
    assert torch.equal(found, expected)
    found.sum().backward()
    assert features.grad is not None
    assert layer.weight.grad is not None
    assert layer.weight.grad.dtype == torch.float32
    names = {str(node.target) for node in torch.export.export(layer, (features.detach(),)).graph.nodes}
    assert "aten.prelu.default" in names
