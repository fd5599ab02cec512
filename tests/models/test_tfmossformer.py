"""TF-MossFormer beyond the contract: published sizes, and the local attention against its definition."""

from __future__ import annotations

import pytest
import torch

from polsess.models import create_model, tfmossformer
from polsess.models.layers.positions import RotaryRates
from polsess.models.tfmossformer import LocalAttention, TFMossFormerConfig


@pytest.mark.parametrize(
    ("preset", "size"), [("small", 5_917_308), ("medium", 17_338_020), ("large", 26_003_364)]
)
def test_published_sizes(preset: str, size: int) -> None:
    with torch.device("meta"):
        model = create_model("tfmossformer", preset=preset)
    assert sum(parameter.numel() for parameter in model.parameters()) == size


@pytest.mark.parametrize("length", [1, 6, 41])
@pytest.mark.parametrize("reach", [0, 2, 7])
def test_local_attention_sees_its_neighbours_only(
    length: int, reach: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tfmossformer, "_BLOCK", 4)
    config = TFMossFormerConfig(num_channels=8, num_heads=2, num_groups=2, attention_size=8)
    attention = LocalAttention(config, RotaryRates(4), reach).eval()
    query, key, value = torch.randn(3, 2, 2, length, 4).unbind()
    scores = query @ key.mT / 2.0
    steps = torch.arange(length)
    far = (steps[:, None] - steps).abs() > reach
    expected = scores.masked_fill(far, -torch.inf).softmax(-1) @ value
    torch.testing.assert_close(attention._attend(query, key, value, 0.0), expected)
