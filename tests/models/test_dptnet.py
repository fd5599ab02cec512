"""DPTNet's options against a step-by-step computation, published sizes and bad input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from polsess.models import create_model
from polsess.models.dptnet import DPTNet, DualPathLayers, ImprovedTransformerLayer
from polsess.models.layers.masks import activate_masks
from polsess.schema import ConfigError
from tests.models.dual_path_naive import chunk_starts, cut, gated_logits, normalise, randomise

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "tanh": torch.tanh,
    "silu": F.silu,
    "linear": torch.clone,
}
SMALL: dict[str, Any] = {
    "num_filters": 6,
    "kernel_size": 6,
    "num_heads": 2,
    "hidden_size": 4,
    "num_blocks": 2,
    "chunk_size": 8,
}


def make(**options: Any) -> DPTNet:
    model = create_model("dptnet", **{**SMALL, **options}).eval().double()
    assert isinstance(model, DPTNet)
    randomise(model)
    return model


def attend(layer: ImprovedTransformerLayer, tokens: Tensor) -> Tensor:
    """One sequence ``[L, D]``, one head at a time."""
    query, key, value = layer.attention.qkv(tokens).chunk(3, -1)
    width = tokens.shape[1] // layer.attention.num_heads
    heads = []
    for q, k, v in zip(query.split(width, 1), key.split(width, 1), value.split(width, 1), strict=True):
        heads.append((q @ k.T / width**0.5).softmax(-1) @ v)
    return layer.attention.out(torch.cat(heads, 1))


def naive_layer(layer: ImprovedTransformerLayer, model: DPTNet, sequence: Tensor) -> Tensor:
    """One sequence ``[D, L]``; the norms see this sequence only."""
    norm, tokens = model.config.norm, sequence.T
    summed = (tokens + attend(layer, tokens)).T
    tokens = normalise(summed[:, None], norm, layer.attention_norm)[:, 0].T
    hidden = layer.rnn(tokens.unsqueeze(1)).squeeze(1)
    projected = layer.project(ACTIVATIONS[model.config.activation](hidden))
    return normalise((tokens + projected).T[:, None], norm, layer.feed_forward_norm)[:, 0]


def naive(model: DPTNet, mixture: Tensor) -> Tensor:
    """One item, channels first, sequence by sequence."""
    config = model.config
    features = model.encoder(mixture[None])[0]  # [N, L]
    num_frames = features.shape[1]
    wide = features if model.widen is None else model.widen(features.T).T
    frames = normalise(wide[:, None], config.norm, model.input_norm)[:, 0]
    starts, _ = chunk_starts(num_frames, config.chunk_size, config.hop_size, "chunk")
    chunks = cut(frames, starts, config.chunk_size)
    for block in model.blocks:
        assert isinstance(block, DualPathLayers)
        chunks = torch.stack([naive_layer(block.intra, model, x) for x in chunks.unbind(2)], 2)
        chunks = torch.stack([naive_layer(block.inter, model, x) for x in chunks.unbind(1)], 1)
    gain = (config.hop_size or config.chunk_size // 2) / config.chunk_size
    logits = gated_logits(model.to_masks, chunks, starts, num_frames, gain)
    return model.decoder(activate_masks(logits[None], config.mask_activation) * features)[0]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_sources": 1, "mask_activation": "sigmoid", "encoder_activation": "linear"},
        {"num_sources": 3, "mask_activation": "softmax", "activation": "tanh"},
        {"num_sources": 1, "mask_activation": "ones"},
        {"chunk_size": 7, "norm": "cLN", "activation": "linear"},
        {"hop_size": 3, "norm": "cgLN", "stride": 2, "activation": "silu"},
        {"num_heads": 4, "inter_bidirectional": False},
        {"num_heads": 1, "hop_size": 8, "kernel_size": 2},
    ],
    ids=str,
)
@pytest.mark.parametrize("num_samples", [6, 61])
def test_options_equal_the_definition(options: dict[str, Any], num_samples: int) -> None:
    model = make(**options)
    mixtures = torch.randn(2, num_samples, dtype=torch.float64)
    with torch.no_grad():
        expected = torch.stack([naive(model, mixture) for mixture in mixtures])
        torch.testing.assert_close(model.estimate_sources(mixtures), expected, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(model.estimate_sources(mixtures), expected, rtol=1e-7, atol=1e-7)


def test_inference_in_several_blocks_equals_one(monkeypatch: pytest.MonkeyPatch) -> None:
    model, mixture = make(), torch.randn(2, 300, dtype=torch.float64)
    expected = model(mixture)
    monkeypatch.setattr("polsess.models.dptnet.frames_per_block", lambda _: 5)
    with torch.no_grad():
        torch.testing.assert_close(model(mixture), expected)


def test_dropout_acts_in_training_only() -> None:
    model, mixture = make(dropout=0.4), torch.randn(1, 90, dtype=torch.float64)
    assert torch.equal(model(mixture), model(mixture))
    model.train()
    assert not torch.equal(model(mixture), model(mixture))


@pytest.mark.parametrize(
    ("preset", "size"),
    [
        (None, 8529025),
        ("DPTNet_WHAM_sepclean", 2855553),
        ("DPTNet_Libri1Mix_enhsingle_16k", 2851393),
    ],
)
def test_published_sizes(preset: str | None, size: int) -> None:
    with torch.device("meta"):
        model = create_model("dptnet", preset=preset)
    assert sum(parameter.numel() for parameter in model.parameters()) == size


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stride": 7}, "stride 7 skips samples"),
        ({"hop_size": 9}, "hop_size 9 skips frames"),
        ({"activation": "swish"}, "activation"),
        ({"num_heads": 0}, "num_heads"),
        ({"ff_hid": 4}, "unknown key"),
    ],
)
def test_contradictions_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(**options)
