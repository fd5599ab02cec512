from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from polsess.models import create_model
from polsess.models.convtasnet import ConvTasNet
from polsess.schema import ConfigError

SMALL: dict[str, Any] = {
    "num_filters": 10,
    "kernel_size": 6,
    "bottleneck_channels": 5,
    "hidden_channels": 7,
    "skip_channels": 4,
    "num_blocks": 3,
    "num_repeats": 2,
}


def make(**options: Any) -> ConvTasNet:
    """A small network whose every parameter differs from its neutral value."""
    model = create_model("convtasnet", **{**SMALL, **options}).eval()
    assert isinstance(model, ConvTasNet)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.5)
    return model


def normalise(features: Tensor, name: str, weight: Tensor, bias: Tensor) -> Tensor:
    """Frame by frame, from the definitions."""
    frames = []
    for index in range(features.shape[-1]):
        seen = {"gLN": features, "cLN": features[..., [index]], "cgLN": features[..., : index + 1]}[name]
        mean = seen.mean((1, 2), keepdim=True)
        variance = (seen - mean).square().mean((1, 2), keepdim=True)
        frames.append((features[..., [index]] - mean) / (variance + 1e-8).sqrt())
    return torch.cat(frames, -1) * weight[:, None] + bias[:, None]


def prelu(features: Tensor, slope: Tensor) -> Tensor:
    return torch.where(features > 0, features, slope * features)


def pad(features: Tensor, span: int, model: ConvTasNet) -> Tensor:
    """So that a valid convolution gives the frames that the option asks for."""
    if model.config.padding == "delayed":
        return F.pad(features, (span + span // 2, 0))[..., : features.shape[-1] + span]
    if model.config.causal:
        return F.pad(features, (span, 0))
    if model.config.padding == "reflect":
        half = span // 2
        before, after = features[..., 1 : half + 1].flip(-1), features[..., -half - 1 : -1].flip(-1)
        return torch.cat([before, features, after], -1)
    return F.pad(features, (span // 2, span - span // 2))


def naive(model: ConvTasNet, mixture: Tensor) -> Tensor:
    """The whole network one operation at a time, from its state dictionary."""
    config, p = model.config, model.state_dict()
    encoded = F.conv1d(mixture[:, None], p["encoder.conv.weight"], stride=config.hop_length)
    encoded = encoded.relu() if config.encoder_activation == "relu" else encoded
    first = config.input_norm or config.norm
    normed = normalise(encoded, first, p["input_norm.weight"], p["input_norm.bias"])
    path = F.conv1d(normed, p["bottleneck.weight"], p.get("bottleneck.bias"))
    skips: Tensor | float = 0.0
    for index in range(config.num_repeats * config.num_blocks):
        b = {key.split(".", 2)[2]: value for key, value in p.items() if key.startswith(f"blocks.{index}.")}
        dilation = 2 ** (index % config.num_blocks)
        hidden = prelu(F.conv1d(path, b["expand.weight"], b.get("expand.bias")), b["expand_prelu.weight"])
        hidden = normalise(hidden, config.norm, b["expand_norm.weight"], b["expand_norm.bias"])
        padded = pad(hidden, dilation * (config.conv_kernel_size - 1), model)
        hidden = F.conv1d(
            padded, b["depthwise.weight"], b.get("depthwise.bias"), 1, 0, dilation, config.hidden_channels
        )
        hidden = prelu(hidden, b["depthwise_prelu.weight"])
        hidden = normalise(hidden, config.norm, b["depthwise_norm.weight"], b["depthwise_norm.bias"])
        both = F.conv1d(hidden, b["outputs.weight"], b.get("outputs.bias"))
        path = path + both[:, : config.bottleneck_channels]
        skips = skips + both[:, config.bottleneck_channels :]
    source = skips if config.skip_channels and isinstance(skips, Tensor) else path
    source = prelu(source, p["mask_prelu.weight"]) if config.mask_prelu else source
    logits = F.conv1d(source, p["to_masks.weight"], p.get("to_masks.bias"))
    masks = logits.view(len(mixture), config.num_sources, config.num_filters, -1)
    activations: dict[str, Callable[[Tensor], Tensor]] = {
        "sigmoid": torch.sigmoid,
        "relu": torch.relu,
        "tanh": torch.tanh,
        "linear": lambda x: x,
        "softmax": lambda x: x.exp() / x.exp().sum(1, keepdim=True),
        "filter_softmax": lambda x: x.exp() / x.exp().sum(2, keepdim=True),
    }
    sources = (activations[config.mask_activation](masks) * encoded[:, None]).flatten(0, 1)
    waves = F.conv_transpose1d(sources, p["decoder.conv.weight"], stride=config.hop_length)
    return waves.view(len(mixture), config.num_sources, -1)


OPTIONS: list[dict[str, Any]] = [
    {},
    {"norm": "cLN"},
    {"norm": "cgLN", "input_norm": "cLN"},
    {"norm": "gLN", "input_norm": "cgLN"},
    {"skip_channels": 0},
    {"skip_channels": 0, "bias": False, "mask_prelu": False, "padding": "reflect", "input_norm": "cLN"},
    {"padding": "reflect", "conv_kernel_size": 5},
    {"conv_kernel_size": 4},
    {"conv_kernel_size": 2, "causal": True, "norm": "cLN"},
    {"causal": True, "norm": "cLN"},
    {"causal": True, "norm": "cgLN"},
    {"causal": True, "padding": "delayed"},
    {"causal": True, "padding": "delayed", "norm": "cLN", "conv_kernel_size": 5},
    {"encoder_activation": "relu", "bias": False},
    {"stride": 2, "num_sources": 1},
    {"stride": 5, "num_sources": 3},
    {"mask_prelu": False},
    *[{"mask_activation": name} for name in ("relu", "tanh", "linear", "softmax", "filter_softmax")],
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_option_is_what_its_definition_says(options: dict[str, Any]) -> None:
    model = make(**options).double()
    mixture = torch.randn(2, 131, dtype=torch.float64)
    expected = naive(model, mixture)
    with torch.no_grad():
        estimate = model(mixture).view(2, model.output_sources, -1)
    torch.testing.assert_close(estimate[..., : expected.shape[-1]], expected, rtol=1e-6, atol=1e-7)
    assert not estimate[..., expected.shape[-1] :].any()


@pytest.mark.parametrize(
    ("options", "causal"),
    [
        ({"causal": True, "norm": "cgLN"}, True),
        ({"causal": True, "norm": "cLN", "kernel_size": 10, "stride": 3}, True),
        ({"causal": True, "norm": "cLN", "padding": "delayed"}, True),
        ({"causal": True, "padding": "delayed"}, False),  # SpeechBrain's recipe: gLN sees the whole utterance
        ({}, False),
    ],
)
def test_the_look_ahead_is_exact(options: dict[str, Any], causal: bool) -> None:
    model = make(**options)
    assert model.causal is causal
    assert (model.look_ahead_samples is not None) is causal
    original = torch.randn(1, 400)
    changed = original.clone()
    cut = 10 * model.hop_length + model.config.kernel_size - 1  # the last sample of a frame
    changed[:, cut:] += 1.0
    with torch.no_grad():
        differs = (model(changed) != model(original)).any(dim=1)[0]
    first = int(differs.nonzero()[0])
    if not causal:
        assert first < 10
    else:
        assert model.look_ahead_samples is not None
        assert first == cut - model.look_ahead_samples


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"causal": True}, "gLN sees the future"),
        ({"causal": True, "norm": "cLN", "input_norm": "gLN"}, "gLN sees the future"),
        ({"causal": True, "norm": "cLN", "padding": "reflect"}, "'reflect' sees the future"),
        ({"padding": "delayed"}, "is for causal networks"),
        ({"padding": "reflect", "conv_kernel_size": 4}, "odd conv_kernel_size"),
        ({"kernel_size": 8, "stride": 9}, "skips samples"),
        ({"num_filters": 0}, "num_filters"),
        ({"norm": "BN"}, "norm"),
        ({"num_filter": 3}, "Did you mean 'num_filters'"),
    ],
)
def test_what_does_not_fit_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        create_model("convtasnet", **options)


@pytest.mark.parametrize(
    ("preset", "overrides", "num_parameters"),
    [
        (None, {}, 5_050_545),
        ("ConvTasNet_WHAM_sepclean", {}, 5_050_545),
        ("ConvTasNet_Libri2Mix_sepclean_8k", {}, 5_050_545),
        ("ConvTasNet_Libri3Mix_sepnoisy_8k", {}, 5_116_593),
        ("ConvTasNet_Libri2Mix_sepclean_16k", {}, 5_066_929),
        ("ConvTasNet_Libri3Mix_sepclean_16k", {}, 5_132_977),
        ("ConvTasNet_Libri1Mix_enhsingle_16k", {}, 5_000_881),
        ("convtasnet-wsj02mix", {}, 6_582_832),
        ("report", {}, 8_708_672),
        ("report", {"num_sources": 1}, 8_643_136),
    ],
)
def test_published_sizes(preset: str | None, overrides: dict[str, Any], num_parameters: int) -> None:
    with torch.device("meta"):
        model = create_model("convtasnet", preset=preset, **overrides)
    assert sum(parameter.numel() for parameter in model.parameters()) == num_parameters


def test_reflection_takes_short_mixtures() -> None:
    model = make(padding="reflect", num_blocks=4)
    assert model.minimum_samples == 6 + 8 * 3
    for length in (1, model.minimum_samples - 1, model.minimum_samples):
        assert model(torch.randn(1, length)).shape == (1, 2, length)
    with pytest.raises(RuntimeError):  # one frame less cannot be mirrored
        model.estimate_sources(torch.randn(1, model.minimum_samples - 1))


def test_the_level_of_the_mixture_passes_through() -> None:
    model, mixture = make(), torch.randn(1, 300)
    with torch.no_grad():
        torch.testing.assert_close(model(4.0 * mixture), 4.0 * model(mixture), rtol=1e-4, atol=1e-4)
