"""The compiled middle of ConvTasNet's blocks against the layers that it replaces."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from polsess.models.convtasnet import ConvBlock, ConvTasNetConfig
from polsess.models.layers.kernels import dilated_block_native, load_kernel

pytestmark = pytest.mark.skipif(load_kernel("dilated_block") is None, reason="no C++ compiler")


def create_block(dilation: int, **options: Any) -> ConvBlock:
    torch.manual_seed(1)
    sizes = {"bottleneck_channels": 6, "hidden_channels": 10, "skip_channels": 7}
    block = ConvBlock(ConvTasNetConfig(**(sizes | options)), dilation).eval()
    for weights in block.parameters():
        torch.nn.init.normal_(weights)
    return block


def run_both(block: ConvBlock, features: Tensor, monkeypatch: pytest.MonkeyPatch) -> tuple[Tensor, Tensor]:
    """By the kernel and without it."""
    with torch.no_grad():
        found = block(features)
        monkeypatch.setattr(dilated_block_native, "is_available", lambda _: False)
        expected = block(features)
    monkeypatch.undo()
    return found, expected


@pytest.mark.parametrize("items", [1, 3])
@pytest.mark.parametrize(("length", "dilation"), [(1, 1), (2, 4), (37, 1), (100, 8), (9000, 2)])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"conv_kernel_size": 4, "bias": False},
        {"padding": "reflect", "skip_channels": 0},
        {"padding": "delayed", "causal": True, "conv_kernel_size": 5},
    ],
)
def test_it_gives_the_numbers_of_the_layers(
    options: dict[str, Any], length: int, dilation: int, items: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = create_block(dilation, **options)
    if block.depthwise.reflect:
        length = max(length, block.depthwise.left + 1)
    features = 3.0 + torch.randn(items, 6, length)
    found, expected = run_both(block, features, monkeypatch)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    wider = torch.cat([features, features], dim=1)[
        :, :6
    ]  # as the residual path lies in the sum of both paths
    torch.testing.assert_close(run_both(block, wider, monkeypatch)[0], found, rtol=1e-5, atol=1e-5)


def test_by_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    block, features = create_block(2), torch.randn(2, 6, 300)
    _, exact = run_both(block, features, monkeypatch)
    with torch.autocast("cpu", torch.bfloat16):
        found, _ = run_both(block, features, monkeypatch)
    assert found.dtype == torch.float32
    assert (found - exact).norm() <= 0.02 * exact.norm()


def test_threads_share_the_channels() -> None:
    block, features, before = create_block(2), torch.randn(2, 6, 500), torch.get_num_threads()
    with torch.no_grad():
        alone = block(features)
        torch.set_num_threads(3)
        try:
            together = block(features)
        finally:
            torch.set_num_threads(before)
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)


def test_what_is_no_number_is_not_hidden() -> None:
    features = torch.randn(2, 6, 50)
    features[1, 2, 7] = torch.nan
    with torch.no_grad():
        found = create_block(1)(features)
    assert found[0].isfinite().all()
    assert found[1].isnan().all()


def test_the_layers_run_with_gradients_and_with_other_norms(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    original = dilated_block_native.run_block

    def counted(*arguments: Any) -> Any:
        calls.append(1)
        return original(*arguments)

    monkeypatch.setattr(dilated_block_native, "run_block", counted)
    features = torch.randn(1, 6, 40)
    create_block(1)(features)
    with torch.no_grad():
        create_block(1, norm="cLN")(features)
        create_block(1, norm="cgLN", causal=True)(features)
        create_block(1).double()(features.double())
        with torch.autocast("cpu", torch.float16):
            assert not dilated_block_native.is_available(features)
        assert not calls
        create_block(1)(features)
    assert len(calls) == 1
