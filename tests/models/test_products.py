"""The faster products against the plain ones: numbers, gradients, and when the plain call runs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from polsess.models.layers import products
from polsess.models.layers.attention import attend, fused_attention
from polsess.models.layers.products import (
    Linear,
    PointwiseConv1d,
    PointwiseConv2d,
    Products,
    choose_products,
    linear,
    matmul,
    pointwise_conv,
)

needs_operator = pytest.mark.skipif(
    not hasattr(torch.ops.mkldnn, "_linear_pointwise"), reason="needs PyTorch with oneDNN"
)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """oneDNN for products of every size, on any processor; counts its calls."""
    counted: list[int] = []
    original = products._rows_by_rows

    def rows_by_rows(*operands: Tensor | None) -> Tensor:
        counted.append(1)
        return original(*operands)  # type: ignore[arg-type]

    monkeypatch.setattr(products, "choose_products", lambda: Products("oneDNN", 2.0))
    monkeypatch.setattr(products, "_LEAST_MACS", 0)
    monkeypatch.setattr(products, "_LEAST_SIDE", 0)
    monkeypatch.setattr(products, "_rows_by_rows", rows_by_rows)
    return counted


def random(*size: int, requires_grad: bool = False) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(sum(size))).requires_grad_(requires_grad)


def assert_equal(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


WEIGHTS = {
    "contiguous": random(24, 16),
    "transposed": random(16, 24).mT,
    "part": random(24, 40)[:, 8:24],
    "square": random(16, 16).mT,
}


@needs_operator
@pytest.mark.parametrize("weight", WEIGHTS.values(), ids=WEIGHTS)
@pytest.mark.parametrize(
    "features", [random(30, 16), random(2, 5, 16), random(2, 16, 5).mT, random(30, 20)[:, :16]]
)
@pytest.mark.parametrize("with_bias", [False, True])
def test_linear_gives_the_same_numbers_and_gradients(
    calls: list[int], features: Tensor, weight: Tensor, with_bias: bool
) -> None:
    bias = random(len(weight)) if with_bias else None
    with torch.no_grad():
        assert_equal(linear(features, weight, bias), F.linear(features, weight, bias))
    assert len(calls) == 1
    leaves = [each.clone().requires_grad_() for each in (features, weight, *([] if bias is None else [bias]))]
    (linear(*leaves).square() / 2).sum().backward()
    gradients = [each.grad for each in leaves]
    assert len(calls) == 4
    expected = torch.autograd.grad((F.linear(*leaves).square() / 2).sum(), leaves)
    for found, right in zip(gradients, expected, strict=True):
        assert found is not None
        assert_equal(found, right)


@needs_operator
@pytest.mark.parametrize("batch", [1, 3])
def test_a_pointwise_convolution_gives_the_same_numbers_and_gradients(calls: list[int], batch: int) -> None:
    features = random(batch, 16, 20, requires_grad=True)
    weight, bias = random(24, 16, 1, requires_grad=True), random(24, requires_grad=True)
    with torch.no_grad():
        assert_equal(pointwise_conv(features, weight), F.conv1d(features, weight))
        assert_equal(pointwise_conv(features, weight, bias), F.conv1d(features, weight, bias))
    assert calls
    leaves = (features, weight, bias)
    found = torch.autograd.grad(pointwise_conv(*leaves).square().sum(), leaves)
    expected = torch.autograd.grad(F.conv1d(*leaves).square().sum(), leaves)
    for gradient, right in zip(found, expected, strict=True):
        torch.testing.assert_close(gradient, right, rtol=1e-4, atol=1e-3)


@needs_operator
@pytest.mark.parametrize(("num_frames", "by_onednn"), [(24, False), (23, True)])
def test_without_avx512_only_broken_rows_go_by_onednn(
    calls: list[int], monkeypatch: pytest.MonkeyPatch, num_frames: int, by_onednn: bool
) -> None:
    monkeypatch.setattr(products, "choose_products", lambda: Products("oneDNN", 1.3, whole_vectors=False))
    features, weight = random(1, 16, num_frames), random(24, 16, 1)
    with torch.no_grad():
        assert_equal(pointwise_conv(features, weight), F.conv1d(features, weight))
        linear(features[0].mT, weight[..., 0])  # rows of 24
    assert len(calls) == by_onednn


@needs_operator
@pytest.mark.parametrize("innermost", [True, False])
def test_only_channels_that_are_innermost_go_by_rows(calls: list[int], innermost: bool) -> None:
    layer, features = PointwiseConv2d(16, 24), random(2, 16, 3, 20)
    if innermost:
        features = features.contiguous(memory_format=torch.channels_last)
    expected = F.conv2d(features, layer.weight, layer.bias)
    assert_equal(layer(features), expected)
    assert bool(calls) == innermost
    with torch.no_grad():
        found = layer(features)
    assert_equal(found, expected)
    assert found.is_contiguous(memory_format=torch.channels_last) == innermost


@needs_operator
def test_batches_of_matrices_give_the_same_numbers(calls: list[int]) -> None:
    first, second = random(2, 3, 6, 8), random(2, 3, 8, 10)
    with torch.no_grad():
        assert_equal(matmul(first, second), first @ second)
        assert_equal(matmul(second.mT, first.mT), second.mT @ first.mT)
        assert_equal(matmul(first[0, 0], second[0, 0]), first[0, 0] @ second[0, 0])
    assert len(calls) == 13
    leaves = first.requires_grad_(), second.requires_grad_()
    found = torch.autograd.grad(matmul(*leaves).square().sum(), leaves)
    assert len(calls) == 13 + 18
    for gradient, right in zip(
        found, torch.autograd.grad((first @ second).square().sum(), leaves), strict=True
    ):
        torch.testing.assert_close(gradient, right, rtol=1e-4, atol=1e-3)


@needs_operator
def test_attention_over_wide_values_is_pytorchs(calls: list[int]) -> None:
    leaves = [random(2, 3, steps, width, requires_grad=True) for steps, width in ((6, 8), (5, 8), (5, 20))]
    query, key, value = leaves
    expected = F.scaled_dot_product_attention(query, key, value)
    assert_equal(attend(query, key, value), expected)
    assert calls
    right = torch.autograd.grad(expected.square().sum(), leaves)
    for gradient, other in zip(
        torch.autograd.grad(attend(query, key, value).square().sum(), leaves), right, strict=True
    ):
        torch.testing.assert_close(gradient, other, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("biased", [False, True])
def test_attention_has_its_gradients_in_float32(biased: bool) -> None:
    query, key, value = (random(2, 3, length, 8).bfloat16().requires_grad_() for length in (5, 7, 7))
    bias = random(2, 3, 5, 7).bfloat16() if biased else None
    heads = query, key, value
    precise = wide_query, wide_key, wide_value = [each.detach().float().requires_grad_() for each in heads]
    wide_bias = None if bias is None else bias.float()
    expected = F.scaled_dot_product_attention(wide_query, wide_key, wide_value, wide_bias)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = fused_attention(query, key, value, bias)
    assert mixed.dtype == torch.bfloat16
    assert torch.equal(mixed, expected.bfloat16())
    mixed.sum().backward()
    expected.sum().backward()
    for each, other in zip(heads, precise, strict=True):
        torch.testing.assert_close(each.grad, other.grad.bfloat16())  # type: ignore[union-attr]
    with torch.no_grad():
        assert fused_attention(query, key, value, bias).dtype == torch.bfloat16
        assert fused_attention(wide_query, wide_key, wide_value).dtype == torch.float32


@needs_operator
@pytest.mark.parametrize(
    "features", [random(2, 5, 16).double(), random(2, 5, 16).bfloat16(), torch.empty(2, 5, 16, device="meta")]
)
def test_the_plain_call_runs_for_other_tensors(calls: list[int], features: Tensor) -> None:
    layer = nn.Linear(16, 24).to(features)
    assert linear(features, layer.weight, layer.bias).dtype == features.dtype
    assert not calls


@needs_operator
def test_the_plain_call_runs_under_autocast_and_in_traced_code(calls: list[int]) -> None:
    layer, features = Linear(16, 24), random(2, 5, 16)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert layer(features).dtype == torch.bfloat16
    torch.export.export(layer, (features,))
    assert not calls


def test_layers_have_the_parameters_of_pytorchs() -> None:
    pairs: list[tuple[Any, Any]] = [
        (Linear(4, 6, bias=False), nn.Linear(4, 6, bias=False)),
        (PointwiseConv1d(4, 6), nn.Conv1d(4, 6, 1)),
        (PointwiseConv2d(4, 6), nn.Conv2d(4, 6, 1)),
    ]
    for own, other in pairs:
        own.load_state_dict(other.state_dict())
        features = random(2, 4, *(5 for _ in range(own.weight.ndim - 2)))
        assert torch.equal(own(features), other(features))


def test_the_choice_can_be_switched_off_and_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    choose_products.cache_clear()
    monkeypatch.setenv("POLSESS_PRODUCTS", "plain")
    assert choose_products() == Products("MKL", 1.0, "POLSESS_PRODUCTS=plain")
    choose_products.cache_clear()
    monkeypatch.delenv("POLSESS_PRODUCTS")
    monkeypatch.setattr(products, "processor_vendor", lambda: "Intel")
    assert choose_products().library == "MKL"
    choose_products.cache_clear()


@pytest.mark.parametrize("whole_vectors", [True, False])
def test_an_operator_that_is_wrong_or_missing_is_not_used(
    monkeypatch: pytest.MonkeyPatch, whole_vectors: bool
) -> None:
    monkeypatch.setattr(products, "_rows_by_rows", lambda first, second: first @ second.mT * 1.001)
    assert products._try_onednn(whole_vectors).reason == "oneDNN gives other numbers"

    def missing(*_: Tensor) -> Tensor:
        raise AttributeError("no such operator\nlong text")

    monkeypatch.setattr(products, "_rows_by_rows", missing)
    reason = products._try_onednn(whole_vectors).reason
    assert reason == "oneDNN's product is not available: no such operator"


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("batch", [1, 3])
def test_inference_under_autocast_reduces_the_product_alone(
    monkeypatch: pytest.MonkeyPatch, batch: int, bias: bool
) -> None:
    monkeypatch.setattr(products, "_LEAST_MACS", 0)
    conv = PointwiseConv1d(16, 24, bias=bias)
    features = random(batch, 16, 30, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        assert conv(features).dtype == torch.bfloat16
        with torch.no_grad():
            assert conv(features.bfloat16()).dtype == torch.bfloat16
            found = conv(features)
    expected = F.conv1d(features, conv.weight, conv.bias)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0, atol=0.05)
    assert (found - expected).norm() <= 0.01 * expected.norm()


def test_so_do_images_whose_channels_are_innermost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_LEAST_MACS", 0)
    conv = PointwiseConv2d(16, 24)
    features = random(2, 16, 1, 30).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        expected = conv(features)
        with torch.autocast("cpu", torch.bfloat16):
            found = conv(features)
    assert found.dtype == torch.float32
    assert (found - expected).norm() <= 0.01 * expected.norm()
