"""The compiled global normalisation against the equation, and when the layers take it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from polsess.models.layers.kernels import load_kernel, norm_native
from polsess.models.layers.norms import GlobalLayerNorm, GlobalTokenNorm, normalise_own

pytestmark = pytest.mark.skipif(load_kernel("norm") is None, reason="no C++ compiler")


def random(*size: int) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(sum(size)))


@pytest.mark.parametrize("num_slopes", [0, 1, 12])
@pytest.mark.parametrize(("tokens", "offset"), [(1, 0.0), (7, 0.0), (900, 0.0), (900, 300.0)])
def test_it_is_the_distance_from_the_mean(tokens: int, offset: float, num_slopes: int) -> None:
    features, weight, bias = random(2, tokens, 12) + offset, random(12), random(11 + 1) + 0.5
    slopes = random(num_slopes).abs() if num_slopes else None
    wide = features.double()
    scaled = (wide - wide.mean((1, 2), keepdim=True)) * (wide.var((1, 2), False, keepdim=True) + 1e-8).rsqrt()
    expected = scaled * weight + bias
    if slopes is not None:
        expected = F.prelu(expected.mT, slopes.double()).mT
    found = norm_native.normalise(features, weight, bias, 1e-8, slopes)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5 + 2e-7 * offset)
    own = norm_native.normalise(features, weight, bias, 1e-8, slopes, inplace=True)
    assert own is features
    assert torch.equal(own, found)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("given", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("channels", [5, 40, 5000])
def test_offsets_and_numbers_of_16_bits(channels: int, given: torch.dtype, dtype: torch.dtype) -> None:
    features, offsets = random(2, 130, channels).to(given), random(channels)
    weight, bias, slopes = random(channels), random(channels), random(1).abs()
    expected = norm_native.normalise(features.float() + offsets, weight, bias, 1e-8, slopes)
    found = norm_native.normalise(features, weight, bias, 1e-8, slopes, offsets, dtype=dtype, inplace=True)
    assert found.dtype == dtype
    assert (found is features) == (dtype == given)
    tolerance = {torch.float32: 1e-5, torch.bfloat16: 8e-3}[dtype]
    torch.testing.assert_close(found.float(), expected, rtol=tolerance, atol=tolerance)


def test_no_items_give_none() -> None:
    assert norm_native.normalise(random(0, 7, 12), random(12), random(12), 1e-8).shape == (0, 7, 12)


def test_layers_give_the_same_numbers_with_and_without_gradients() -> None:
    frames = random(2, 12, 1, 30).contiguous(memory_format=torch.channels_last)
    norm, tokens = GlobalLayerNorm(12), GlobalTokenNorm(12)
    with torch.no_grad():
        for parameter in (*norm.parameters(), *tokens.parameters()):
            parameter.add_(random(12))
    slopes = random(12).abs()
    expected = F.prelu(norm(frames), slopes)
    kept = frames.clone()
    assert torch.equal(normalise_own(norm, frames, slopes), expected)
    assert torch.equal(frames, kept)
    of_tokens = tokens(random(2, 5, 6, 12))
    with torch.no_grad():
        torch.testing.assert_close(tokens(random(2, 5, 6, 12)), of_tokens, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(norm(frames), norm(frames.contiguous()), rtol=1e-5, atol=1e-5)
        assert torch.equal(frames, kept)
        found = normalise_own(norm, frames, slopes)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert found.data_ptr() == frames.data_ptr()


def test_layers_add_offsets_first() -> None:
    frames, offsets = random(2, 12, 1, 30).contiguous(memory_format=torch.channels_last), random(12)
    norm = GlobalLayerNorm(12)
    expected = normalise_own(norm, frames, offsets=offsets)
    torch.testing.assert_close(expected, norm(frames + offsets.view(-1, 1, 1)))
    with torch.no_grad():
        found = normalise_own(norm, frames, offsets=offsets)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
