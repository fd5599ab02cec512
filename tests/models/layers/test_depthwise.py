from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from polsess.models.layers import depthwise
from polsess.models.layers.depthwise import DepthwiseConv, depthwise_conv, gated_conv


@pytest.mark.parametrize("length", [1, 5, 64, 131])
@pytest.mark.parametrize(("kernel_size", "dilation"), [(1, 1), (5, 1), (7, 2), (3, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_and_gradients_are_the_library_s(
    length: int, kernel_size: int, dilation: int, dtype: torch.dtype
) -> None:
    frames = torch.randn(2, length, 6, dtype=dtype, requires_grad=True)
    weight = torch.randn(6, 1, kernel_size, dtype=dtype, requires_grad=True)
    bias = torch.randn(6, dtype=dtype, requires_grad=True)
    padding = kernel_size // 2 * dilation
    expected = F.conv1d(frames.mT, weight, bias, padding=padding, dilation=dilation, groups=6).mT
    found = depthwise_conv(frames, weight, bias, dilation)
    torch.testing.assert_close(found, expected)
    probe = torch.randn_like(found)
    for mine, theirs in zip(
        torch.autograd.grad(found, (frames, weight, bias), probe),
        torch.autograd.grad(expected, (frames, weight, bias), probe),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def test_without_a_library_kernel_the_taps_are_summed(monkeypatch: pytest.MonkeyPatch) -> None:
    frames, weight = torch.randn(1, 150, 4), torch.randn(4, 1, 5)
    expected = depthwise_conv(frames, weight)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    calls = []
    original = depthwise._tap_loop

    def counted(frames: Tensor, weight: Tensor) -> Tensor:
        calls.append(len(weight))
        return original(frames, weight)

    monkeypatch.setattr(depthwise, "_tap_loop", counted)
    torch.testing.assert_close(depthwise_conv(frames, weight), expected)
    assert calls


def test_frames_that_are_a_transposed_view() -> None:
    frames, weight = torch.randn(2, 4, 33), torch.randn(4, 1, 5)
    expected = F.conv1d(frames, weight, padding=2, groups=4).mT
    torch.testing.assert_close(depthwise_conv(frames.mT, weight), expected)


def test_exported_programs_hold_the_library_s_convolution() -> None:
    model = DepthwiseConv(4, 5, dilation=2, bias=True).eval()
    frames = torch.randn(1, 40, 4)
    program = torch.export.export(model, (frames,))
    torch.testing.assert_close(program.module()(frames), model(frames))


def test_bias_is_added_and_an_even_kernel_refused() -> None:
    layer, frames = DepthwiseConv(3, 5, bias=True), torch.randn(1, 9, 3)
    assert layer.bias is not None
    torch.testing.assert_close(layer(frames), depthwise_conv(frames, layer.weight) + layer.bias)
    with pytest.raises(ValueError, match="kernel_size must be odd, got 4"):
        DepthwiseConv(3, 4)


def test_the_residual_is_the_input() -> None:
    layer, frames = DepthwiseConv(3, 5, dilation=2, bias=True, residual=True), torch.randn(2, 9, 3)
    assert layer.bias is not None
    expected = frames + depthwise_conv(frames, layer.weight, layer.bias, 2)
    torch.testing.assert_close(layer(frames), expected)


def test_autocast_gives_the_reduced_precision() -> None:
    layer, frames = DepthwiseConv(3, 5), torch.randn(1, 20, 3, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = layer(frames)
    assert output.dtype == torch.bfloat16
    output.float().sum().backward()
    assert frames.grad is not None
    assert layer.weight.grad is not None
    assert layer.weight.grad.dtype == torch.float32
    torch.testing.assert_close(output.float(), layer(frames), rtol=0.03, atol=0.03)


@pytest.mark.parametrize("kernels", ["on", "off"])
@pytest.mark.parametrize("length", [1, 2, 3, 40])
@pytest.mark.parametrize("kernel_size", [1, 3, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_half_of_the_channels_gates_the_other(
    kernels: str, length: int, kernel_size: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POLSESS_KERNELS", kernels)
    frames = torch.randn(2, length, 38).to(dtype)
    weight, bias = torch.randn(38, 1, kernel_size), torch.randn(38)
    sums = F.conv1d(frames.float().mT, weight, bias, padding=kernel_size // 2, groups=38)
    tolerance = 1e-5 if dtype == torch.float32 else 0.05
    with torch.inference_mode(), torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        found = gated_conv(frames, weight, bias)
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), F.glu(sums, 1).mT, rtol=tolerance, atol=tolerance)
