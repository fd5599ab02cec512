"""SuDoRM-RF's options against a step-by-step computation, published sizes and bad input."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from polsess.models import create_model
from polsess.models.layers.masks import activate_masks
from polsess.models.sudormrf import FilterMixing, JointDecoder, SuDoRMRF, UConvBlock
from polsess.schema import ConfigError
from tests.models.dual_path_naive import normalise, randomise

SMALL: dict[str, Any] = {
    "num_filters": 8,
    "kernel_size": 9,
    "bottleneck_channels": 5,
    "block_channels": 7,
    "num_blocks": 2,
    "depth": 3,
}


def make(**options: Any) -> SuDoRMRF:
    model = create_model("sudormrf", **{**SMALL, **options}).eval().double()
    assert isinstance(model, SuDoRMRF)
    randomise(model)
    return model


def norm_of(features: Tensor, norm: nn.Module) -> Tensor:
    return normalise(features[:, None], "gLN", norm)[:, 0]


def prelu(features: Tensor, slope: Tensor) -> Tensor:
    return torch.where(features > 0, features, features * slope[:, None])


def pointwise(conv: nn.Module, features: Tensor) -> Tensor:
    assert isinstance(conv, nn.Conv1d | nn.Conv2d)
    assert conv.bias is not None
    return conv.weight.flatten(1) @ features + conv.bias[:, None]


def naive_scales(block: UConvBlock, features: Tensor) -> Tensor:
    """Down by five-tap filters, channel by channel, and up by repetition."""
    levels = []
    for index, scale in enumerate(block.scales):
        conv = scale.conv
        assert isinstance(conv, nn.Conv2d)
        assert conv.bias is not None
        step, padded = (1 if index == 0 else 2), F.pad(features, (2, 2))
        frames = [
            (padded[:, start : start + 5] * conv.weight[:, 0, 0]).sum(1) + conv.bias
            for start in range(0, features.shape[1], step)
        ]
        features = norm_of(torch.stack(frames, 1), scale.get_submodule("norm"))
        levels.append(features)
    total = levels.pop()
    while levels:
        finer = levels.pop()
        total = torch.stack([finer[:, i] + total[:, i // 2] for i in range(finer.shape[1])], 1)
    return total


def naive_block(block: UConvBlock, features: Tensor, variant: str) -> Tensor:
    expanded = norm_of(pointwise(block.expand.conv, features), block.expand.norm)
    expanded = prelu(expanded, block.expand.get_submodule("activation").get_parameter("weight"))
    merged = norm_of(naive_scales(block, expanded), block.merged_norm)
    merged = prelu(merged, block.merged_activation.weight)
    if variant == "improved":
        return pointwise(block.reduce, merged) + features
    reduced = pointwise(block.reduce.get_submodule("conv"), merged)
    summed = norm_of(reduced, block.reduce.get_submodule("norm")) + features
    norm, activation = block.output
    return prelu(norm_of(summed, norm), activation.get_parameter("weight"))


def naive_logits(model: SuDoRMRF, features: Tensor) -> Tensor:
    """``[C, N, L]``."""
    head = model.to_masks
    if not isinstance(head, FilterMixing):
        slope, conv = head[0].get_parameter("weight"), head[1]
        return pointwise(conv, prelu(features, slope)).unflatten(0, (model.output_sources, -1))
    wide = pointwise(head.expand, features) if isinstance(head.expand, nn.Conv1d) else features
    half = len(wide) - len(wide) // 2
    image = F.conv2d(wide[None, None], head.weight[:, None, :, None], head.bias, padding=(half, 0))
    return image[0]


def naive(model: SuDoRMRF, mixture: Tensor) -> Tensor:
    config, half = model.config, model.config.kernel_size // 2
    multiple = math.lcm(half, 2**config.depth)
    padded = torch.cat([mixture, mixture.new_zeros(-len(mixture) % multiple)])
    features = F.conv1d(padded[None], model.encoder.conv.weight, stride=half, padding=half)
    features = features.relu() if config.variant == "original" else features
    hidden = pointwise(model.bottleneck, norm_of(features, model.norm))
    for block in model.blocks:
        assert isinstance(block, UConvBlock)
        hidden = naive_block(block, hidden, config.variant)
    masks = activate_masks(naive_logits(model, hidden)[None], config.mask_activation)[0]
    masked = masks * features
    if isinstance(model.decoder, JointDecoder):
        masked = masked.flatten(0, 1)[None]
    estimate = F.conv_transpose1d(
        masked, model.decoder.conv.weight, stride=half, padding=half, output_padding=half - 1
    )
    return estimate.view(model.output_sources, -1)[:, : len(mixture)]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"variant": "original", "mask_activation": "softmax"},
        {"variant": "original", "num_sources": 3, "bottleneck_channels": 8, "channel_slopes": False},
        {"variant": "original", "num_sources": 1, "mask_activation": "ones", "depth": 1},
        {"num_sources": 1, "mask_activation": "sigmoid", "channel_slopes": False, "decoder": "joint"},
        {"num_sources": 3, "decoder": "joint", "kernel_size": 4, "depth": 2},
        {"kernel_size": 2, "depth": 4, "num_filters": 7},
        {"kernel_size": 41, "depth": 4},
    ],
    ids=str,
)
@pytest.mark.parametrize("num_samples", [1, 93])
def test_options_equal_the_definition(options: dict[str, Any], num_samples: int) -> None:
    model = make(**options)
    mixtures = torch.randn(2, num_samples, dtype=torch.float64)
    with torch.no_grad():
        expected = torch.stack([naive(model, mixture) for mixture in mixtures])
        torch.testing.assert_close(model.estimate_sources(mixtures), expected, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(model.estimate_sources(mixtures), expected, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize(
    ("preset", "size"),
    [
        (None, 2630801),
        ("original", 2584196),
        ("original-libri1mix-enhsingle-16k", 2604162),
        ("improved-libri1mix-enhsingle-16k", 2585233),
    ],
)
def test_published_sizes(preset: str | None, size: int) -> None:
    with torch.device("meta"):
        model = create_model("sudormrf", preset=preset)
    assert sum(parameter.numel() for parameter in model.parameters()) == size


@pytest.mark.parametrize(
    ("preset", "millions"),
    [
        ("improved-u16-bases512-wsj02mix", 5.02),
        ("improved-u36-bases2048-wsj02mix", 23.24),
        ("improved-u16-bases2048-whamr", 6.36),
        ("improved-u36-bases4096-whamr", 26.61),
    ],
)
def test_sizes_that_the_authors_round(preset: str, millions: float) -> None:
    with torch.device("meta"):
        model = create_model("sudormrf", preset=preset)
    assert round(sum(parameter.numel() for parameter in model.parameters()) / 1e6, 2) == millions


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variant": "original", "num_filters": 7}, "num_filters must be even"),
        ({"variant": "newest"}, "variant"),
        ({"kernel_size": 1}, "kernel_size"),
        ({"stride": 4}, "unknown key"),
    ],
)
def test_contradictions_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(**options)
