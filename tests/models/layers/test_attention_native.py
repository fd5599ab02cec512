"""The compiled attention against the equations, at the borders of its tiles, blocks and groups."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from polsess.models.layers.attention import SelfAttention
from polsess.models.layers.kernels import attention_native, load_kernel
from polsess.models.layers.relative_attention import RelativeAttention

pytestmark = pytest.mark.skipif(load_kernel("attention") is None, reason="no C++ compiler")


def random(*size: int) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(sum(size)))


def naive(heads: Tensor, distances: Tensor | None) -> Tensor:
    """``[B, L, 3, H, D]`` to ``[B, L, H * D]`` in double precision."""
    query, key, value = heads.double().permute(2, 0, 3, 1, 4)
    scores = query @ key.mT
    if distances is not None:
        reach, places = len(distances) // 2, torch.arange(heads.shape[1])
        steps = (places[:, None] - places).clamp(-reach, reach - 1) + reach  # [L, L]
        scores = scores + (query.unsqueeze(-2) * distances.double()[steps]).sum(-1)
    weights = (scores * heads.shape[-1] ** -0.5).softmax(-1)
    return (weights @ value).transpose(1, 2).flatten(2)


distances_reach = pytest.mark.parametrize("reach", [None, 3, 400])
sizes = pytest.mark.parametrize(
    ("items", "length", "num_heads", "size"),
    [
        (1, 1, 2, 4),
        (3, 5, 1, 16),
        (2, 13, 2, 20),
        (1, 97, 2, 8),
        (1, 256, 1, 33),
        (1, 301, 2, 16),
        (1, 530, 1, 64),
    ],
)


@distances_reach
@sizes
def test_it_is_the_softmax_of_products(
    items: int, length: int, num_heads: int, size: int, reach: int | None
) -> None:
    heads = 2.0 * random(items, length, 3, num_heads, size)
    distances = None if reach is None else random(2 * reach, size)
    expected = naive(heads, distances)
    torch.testing.assert_close(
        attention_native.attend(heads, distances).double(), expected, rtol=1e-4, atol=1e-5
    )
    turned = heads.transpose(0, 1).contiguous().transpose(0, 1)  # the same numbers, other steps
    assert torch.equal(attention_native.attend(turned, distances), attention_native.attend(heads, distances))


def in_tiles(heads: Tensor) -> Tensor:
    """In bfloat16, if the processor has tiles of it."""
    reduced = heads.bfloat16()
    with torch.no_grad():
        if not attention_native.is_available(reduced):
            pytest.skip("the processor has no tiles")
    return reduced


@distances_reach
@sizes
def test_products_of_bfloat16(items: int, length: int, num_heads: int, size: int, reach: int | None) -> None:
    heads = in_tiles(2.0 * random(items, length, 3, num_heads, size))
    distances = None if reach is None else random(2 * reach, size).bfloat16()
    expected = naive(heads, distances)
    found = attention_native.attend(heads, distances)
    assert found.dtype == torch.bfloat16
    assert (found.double() - expected).norm() <= 0.004 * expected.norm()
    turned = heads.transpose(0, 1).contiguous().transpose(0, 1)
    assert torch.equal(attention_native.attend(turned, distances), found)


@sizes
def test_gradients_of_bfloat16(items: int, length: int, num_heads: int, size: int) -> None:
    heads = in_tiles(2.0 * random(items, length, 3, num_heads, size)).requires_grad_()
    precise = heads.detach().double().requires_grad_()
    gradient = random(items, length, num_heads * size).bfloat16()
    attention_native.attend(heads).backward(gradient)
    naive(precise, None).backward(gradient.double())
    found, expected = (each.grad.double() for each in (heads, precise))  # type: ignore[union-attr]
    for part in range(3):
        error = (found[:, :, part] - expected[:, :, part]).norm()
        assert error <= 0.01 * expected[:, :, part].norm() + 1e-6
    turned = heads.detach().transpose(0, 1).contiguous().transpose(0, 1).requires_grad_()
    attention_native.attend(turned).backward(gradient.transpose(0, 1).contiguous().transpose(0, 1))
    assert torch.equal(turned.grad, heads.grad)  # type: ignore[arg-type]


def test_no_items_give_none() -> None:
    assert attention_native.attend(random(0, 5, 3, 2, 4)).shape == (0, 5, 8)


@pytest.mark.parametrize("reduced", [False, True])
@pytest.mark.parametrize("scale", [1e-3, 30.0])
def test_scores_far_apart_keep_their_order_of_size(scale: float, reduced: bool) -> None:
    heads = scale * random(1, 530, 3, 1, 8)
    heads[:, 400, 1] *= 5.0  # the highest scores come late
    rtol, atol = (2e-2, 1e-2) if reduced else (1e-3, 1e-4)
    heads = in_tiles(heads) if reduced else heads
    torch.testing.assert_close(
        attention_native.attend(heads).double() / scale, naive(heads, None) / scale, rtol=rtol, atol=atol
    )


@pytest.mark.parametrize("reduced", [False, True])
def test_what_is_no_number_is_not_hidden(reduced: bool) -> None:
    heads = random(1, 40, 3, 1, 8)
    heads[0, 7, 0] = torch.nan
    found = attention_native.attend(in_tiles(heads) if reduced else heads)
    assert found[0, 7].isnan().all()
    assert found[0, :7].isfinite().all()


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts those of the kernels."""
    counted: list[int] = []
    original = attention_native.attend

    def attend(heads: Tensor, distances: Tensor | None = None) -> Tensor:
        counted.append(1)
        return original(heads, distances)

    monkeypatch.setattr(attention_native, "attend", attend)
    return counted


def test_layers_train_with_it_under_autocast(calls: list[int]) -> None:
    in_tiles(random(1, 1, 3, 1, 4))
    tokens, plain = random(2, 30, 12), SelfAttention(12, 2)
    plain(tokens).square().sum().backward()
    assert not calls
    expected = {name: each.grad.clone() for name, each in plain.named_parameters()}  # type: ignore[union-attr]
    plain.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        mixed = plain(tokens)
        SelfAttention(12, 2, causal=True)(tokens)
        SelfAttention(12, 2, dropout=0.5)(tokens)
    assert len(calls) == 1
    mixed.float().square().sum().backward()
    for name, each in plain.named_parameters():
        error = (each.grad - expected[name]).norm()  # type: ignore[operator]
        assert error <= 0.03 * expected[name].norm() + 1e-3, name


def test_layers_take_it_in_float32_in_inference_alone(calls: list[int]) -> None:
    tokens, distances = random(2, 30, 12), random(8, 6)
    plain, known = SelfAttention(12, 2), RelativeAttention(12, 2, 0.0)
    expected = [plain(tokens), known(tokens, distances)]
    assert not calls
    with torch.no_grad():
        found = [plain(tokens), known(tokens, distances)]
        assert len(calls) == 2
        for other in (SelfAttention(12, 2, causal=True), SelfAttention(12, 2, dropout=0.5)):
            other(tokens)
        plain.double()(tokens.double())
    assert len(calls) == 2
    for one, right in zip(found, expected, strict=True):
        torch.testing.assert_close(one, right, rtol=1e-4, atol=1e-6)
