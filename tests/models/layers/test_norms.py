from __future__ import annotations

import pytest
import torch
from torch import Tensor

from polsess.models.layers.norms import NormName, create_norm, create_token_norm


def naive(name: NormName, features: Tensor, eps: float) -> Tensor:
    """Centre and scale each position by the positions that the definition names, one at a time."""
    output = torch.empty_like(features)
    for index in torch.cartesian_prod(*[torch.arange(size) for size in features.shape[2:]]):
        where = tuple(index.reshape(-1).tolist())
        if name == "gLN":
            seen = features.flatten(1)
        elif name == "cLN":
            seen = features[(..., *where)]
        elif name == "fgLN":
            seen = features.flatten(2)
        else:
            seen = features[..., : where[-1] + 1].flatten(1)
        mean, variance = seen.mean(-1, keepdim=True), seen.var(-1, keepdim=True, unbiased=False)
        mean, variance = (each.reshape(len(features), -1) for each in (mean, variance))
        output[(..., *where)] = (features[(..., *where)] - mean) / (variance + eps).sqrt()
    return output


@pytest.mark.parametrize("name", ["gLN", "cLN", "cgLN", "fgLN"])
@pytest.mark.parametrize("shape", [(2, 5, 7), (2, 3, 4, 5), (1, 3, 1)])
@pytest.mark.parametrize("eps", [1e-8, 0.3])
def test_the_definition(name: NormName, shape: tuple[int, ...], eps: float) -> None:
    features = torch.randn(shape, dtype=torch.float64) + 0.7
    norm = create_norm(name, shape[1], eps).double()
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    affine = [parameter.view(1, -1, *[1] * (len(shape) - 2)) for parameter in (norm.weight, norm.bias)]
    expected = naive(name, features, eps) * affine[0] + affine[1]
    torch.testing.assert_close(norm(features), expected, rtol=1e-6, atol=1e-6)
    tokens = create_token_norm(name, shape[1], eps).double()
    tokens.load_state_dict(norm.state_dict())
    torch.testing.assert_close(
        tokens(features.transpose(1, -1)).transpose(1, -1), expected, rtol=1e-6, atol=1e-6
    )
    torch.testing.assert_close(norm.float()(features.float()), expected.float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["gLN", "cLN", "cgLN"])
def test_gradients(name: NormName) -> None:
    norm = create_norm(name, 3, 1e-3).double()
    features = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(norm, features)


def test_cumulative_statistics_survive_long_signals_with_an_offset() -> None:
    norm = create_norm("cgLN", 1)
    features = torch.randn(1, 1, 400_000) + 50.0
    tail = norm(features)[..., -1000:]
    expected = (features - features.mean()) / features.std()
    torch.testing.assert_close(tail, expected[..., -1000:], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["gLN", "cLN", "cgLN"])
def test_half_precision_keeps_the_statistics_in_single(name: NormName) -> None:
    features = torch.randn(1, 64, 500) * 30.0 + 100.0
    expected = create_norm(name, 64)(features.bfloat16().float())
    estimate = create_norm(name, 64).bfloat16()(features.bfloat16())
    assert estimate.dtype == torch.bfloat16
    torch.testing.assert_close(estimate.float(), expected, rtol=0.02, atol=0.05)


@pytest.mark.parametrize("grad", [False, True])
def test_the_order_in_memory_does_not_cost_precision(grad: bool) -> None:
    norm = create_norm("gLN", 16)
    torch.nn.init.normal_(norm.weight)
    features = torch.randn(2, 16, 1, 4000) + 100.0
    innermost = features.contiguous(memory_format=torch.channels_last)
    with torch.set_grad_enabled(grad):
        estimate = norm(innermost)
    assert estimate.is_contiguous(memory_format=torch.channels_last)
    expected = norm.double()(features.double()).float()
    torch.testing.assert_close(estimate, expected, rtol=1e-4, atol=1e-4)


def test_batch_norms_keep_what_they_saw() -> None:
    """The same for channels first and last; afterwards the items of a batch do not see each other."""
    features = torch.randn(4, 3, 5, 6) * torch.tensor([1.0, 5.0, 0.2]).view(3, 1, 1) + 2.0
    norm, tokens = create_norm("bN", 3), create_token_norm("bN", 3)
    for _ in range(100):
        norm(features)
        tokens(features.movedim(1, -1))
    norm.eval(), tokens.eval()
    centred = (features - features.mean((0, 2, 3), keepdim=True)) / features.std((0, 2, 3), keepdim=True)
    torch.testing.assert_close(norm(features), centred, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(norm(features[:1]), norm(features)[:1])
    torch.testing.assert_close(tokens(features.movedim(1, -1)).movedim(-1, 1), norm(features))
