from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from polsess.models.layers.padding import Padding, TimeNorm, UtteranceNorm


def perturbed(norm: UtteranceNorm) -> UtteranceNorm:
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return norm


def test_the_two_are_the_library_s() -> None:
    frames = 3.0 + 2.0 * torch.randn(2, 21, 5)
    norm = perturbed(UtteranceNorm(5))
    expected = F.group_norm(frames.mT, 1, norm.weight, norm.bias, 1e-8).mT
    torch.testing.assert_close(norm(frames), expected)
    norm = perturbed(TimeNorm(5))
    expected = F.instance_norm(frames.mT, weight=norm.weight, bias=norm.bias, eps=1e-5).mT
    torch.testing.assert_close(norm(frames), expected)


@pytest.mark.parametrize("norm_class", [UtteranceNorm, TimeNorm])
def test_padding_has_no_part_in_the_statistics(norm_class: type[UtteranceNorm]) -> None:
    norm = perturbed(norm_class(4))
    frames = torch.randn(2, 20, 4)
    frames[0, 13:] = 100.0
    found = norm(frames, Padding.of(torch.tensor([13, 20]), 20, torch.float32))
    torch.testing.assert_close(found[0, :13], norm(frames[:1, :13])[0])
    torch.testing.assert_close(found[1], norm(frames[1:])[0])
