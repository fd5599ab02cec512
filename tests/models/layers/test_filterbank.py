from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import Conv1d

from polsess.models.layers.filterbank import Decoder, Encoder, FilterbankActivation
from polsess.models.layers.filters import FilterConv1d


def frames(mixture: Tensor, conv: Conv1d | FilterConv1d, kernel: int, stride: int, padding: int) -> Tensor:
    padded = torch.nn.functional.pad(mixture, (padding, padding))
    products = padded.unfold(-1, kernel, stride) @ conv.weight.squeeze(1).T  # [B, L, N]
    return (products if conv.bias is None else products + conv.bias).mT


@pytest.mark.parametrize("activation", ["linear", "relu", "gated"])
@pytest.mark.parametrize(("kernel", "stride", "padding", "bias"), [(16, 8, 0, False), (5, 3, 2, True)])
def test_encoder_is_a_product_of_frames(
    activation: FilterbankActivation, kernel: int, stride: int, padding: int, bias: bool
) -> None:
    encoder = Encoder(6, kernel, stride, activation=activation, bias=bias, padding=padding)
    mixture = torch.randn(2, 101)
    expected = frames(mixture, encoder.conv, kernel, stride, padding)
    if activation != "linear":
        expected = expected.relu()
    if activation == "gated":
        expected = expected * frames(mixture, encoder.gate, kernel, stride, padding).sigmoid()
    torch.testing.assert_close(encoder(mixture), expected)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "output_padding", "bias"), [(16, 8, 0, 0, False), (5, 3, 2, 1, True)]
)
def test_decoder_overlaps_and_adds(
    kernel: int, stride: int, padding: int, output_padding: int, bias: bool
) -> None:
    decoder = Decoder(6, kernel, stride, bias=bias, padding=padding, output_padding=output_padding)
    features = torch.randn(2, 3, 6, 9)
    full = torch.zeros(2, 3, 8 * stride + kernel + output_padding)
    for frame in range(9):
        synthesis = features[..., frame] @ decoder.conv.weight.squeeze(1)
        full[..., frame * stride : frame * stride + kernel] += synthesis
    expected = full[..., padding : full.shape[-1] - padding]
    if decoder.conv.bias is not None:
        expected = expected + decoder.conv.bias
    torch.testing.assert_close(decoder(features), expected)
    torch.testing.assert_close(decoder(features.mT.contiguous().mT), expected)  # channels innermost


def test_filters_keep_float32_under_autocast() -> None:
    encoder, decoder, mixture = Encoder(6, 8, 4, activation="gated"), Decoder(6, 8, 4), torch.randn(2, 40)
    features, masked = encoder(mixture), torch.randn(2, 3, 6, 9).bfloat16()
    expected = decoder(masked.float())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(encoder(mixture), features)
        assert torch.equal(decoder(masked), expected)
