"""SepFormer: every option against loops, published sizes, long inputs, bad configurations."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from polsess.models import create_model
from polsess.models.layers import dual_path
from polsess.models.sepformer import SepFormer
from polsess.schema import ConfigError
from tests.models.naive_transformers import (
    analyse,
    prelu,
    synthesise,
    token_norm,
    transformer,
)


def tiny(**overrides: Any) -> SepFormer:
    """A small model in double precision, no parameter at a value that would hide it."""
    model = create_model("sepformer", preset="tiny", **overrides).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    assert isinstance(model, SepFormer)
    return model


def naive(model: SepFormer, mixture: Tensor) -> Tensor:
    """One item ``[T]`` to ``[C, T]``."""
    config, size = model.config, model.config.chunk_size
    encoded = analyse(mixture, model)
    frames = token_norm(encoded.T, model.norm, config.norm, 1e-8) @ model.bottleneck.weight.T  # [L, D]
    length, half = len(frames), size // 2
    total = half + length + (size - (half + length % size) % size) + half
    padded = frames.new_zeros(total, config.d_model)
    padded[half : half + length] = frames
    starts = [begin + shift for begin in range(0, total - half, size) for shift in (0, half)]
    x = torch.stack([padded[start : start + size] for start in starts])  # [S, K, D]
    for block in model.blocks:
        x = _block(x, block, config)
    x = prelu(x, model.activation)
    sources = x @ model.to_sources.weight.T + model.to_sources.bias  # [S, K, C*D]
    summed = padded.new_zeros(total + size, sources.shape[-1])
    for index, start in enumerate(starts):
        summed[start : start + size] += sources[index]
    summed = summed[half : half + length].reshape(length, config.num_sources, config.d_model)
    gated = summed @ model.gated_output.weight.T + model.gated_output.bias
    output, gate = gated[..., : config.d_model], gated[..., config.d_model :]
    masks = (torch.tanh(output) * torch.sigmoid(gate) @ model.to_mask.weight.T).clamp_min(0)  # [L, C, N]
    return torch.stack(
        [synthesise(encoded * masks[:, c].T, model, len(mixture)) for c in range(config.num_sources)]
    )


def _block(x: Tensor, block: Any, config: Any) -> Tensor:
    def run(sequence: Tensor, network: Any) -> Tensor:
        stack = network[0] if config.linear_after_transformer else network
        y = transformer(
            sequence,
            stack,
            norm_first=config.norm_first,
            activation=config.activation,
            pe=config.positional_encoding,
        )
        return y @ network[1].weight.T + network[1].bias if config.linear_after_transformer else y

    intra = torch.stack([run(chunk, block.intra) for chunk in x])
    intra = token_norm(intra, block.intra_norm, config.norm, 1e-8)
    if config.skip_around_intra:
        intra = intra + x
    inter = torch.stack([run(intra[:, place], block.inter) for place in range(x.shape[1])], dim=1)
    return token_norm(inter, block.inter_norm, config.norm, 1e-8) + intra


OPTIONS: list[dict[str, Any]] = [
    {},
    {"norm_first": False},
    {"positional_encoding": False, "d_model": 9, "num_heads": 3},
    {"linear_after_transformer": True},
    {"skip_around_intra": False},
    {"norm": "cLN"},
    {"activation": "gelu"},
    {"chunk_size": 7, "num_blocks": 2},
    {"chunk_size": 2, "kernel_size": 2},
    {"kernel_size": 41, "num_sources": 3},
    {"kernel_size": 5, "num_sources": 1, "num_intra_layers": 2, "num_inter_layers": 3},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_option_equals_the_loops(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny(**options)
    mixture = torch.randn(2, 40 * model.hop_length + 17, dtype=torch.float64)
    with torch.no_grad():
        expected = torch.stack([naive(model, item) for item in mixture])
    expected = expected.squeeze(1) if model.output_sources == 1 else expected
    torch.testing.assert_close(model(mixture), expected, rtol=1e-9, atol=1e-9)
    monkeypatch.setattr(dual_path, "frames_per_block", lambda _: 45)  # many blocks, the last one shorter
    with torch.no_grad():
        torch.testing.assert_close(model(mixture), expected, rtol=1e-9, atol=1e-9)


PUBLISHED = {1: 25_613_569, 2: 25_679_361, 3: 25_745_153}
CONFORMER_INTRA = 38_454_785  # of SpeechBrain's classes with the recipe's sizes


@pytest.mark.parametrize("preset", [name for name in SepFormer.presets if name != "tiny"])
def test_published_sizes(preset: str) -> None:
    with torch.device("meta"):
        model = create_model("sepformer", preset=preset)
    size = CONFORMER_INTRA if "conformer" in preset else PUBLISHED[model.output_sources]
    assert sum(parameter.numel() for parameter in model.parameters()) == size
    assert model.sample_rate == (16000 if "16k" in preset or "rescue" in preset else 8000)


def test_more_than_2500_chunks() -> None:
    """The toolkit's table of positions ends there."""
    model = create_model("sepformer", preset="tiny", chunk_size=2, kernel_size=2).eval()
    with torch.no_grad():
        assert model(torch.randn(1, 2600)).shape == (1, 2, 2600)


def test_dropout_acts_in_training_only() -> None:
    model, mixture = tiny(dropout=0.5), torch.randn(1, 400, dtype=torch.float64)
    assert torch.equal(model(mixture), model(mixture))
    model.train()
    assert not torch.allclose(model(mixture), model(mixture))


def test_level_of_the_mixture_only_scales_the_estimates() -> None:
    """The first norm removes it, the masks act on the encoder's output."""
    model, mixture = tiny(), torch.randn(1, 500, dtype=torch.float64)
    torch.testing.assert_close(model(100.0 * mixture), 100.0 * model(mixture), rtol=1e-4, atol=1e-6)


GRU: dict[str, Any] = {"kind": "recurrent", "cell": "GRU", "hidden_size": 5}
CONFORMER: dict[str, Any] = {"kind": "conformer", "num_heads": 2, "d_ffn": 8, "conv_kernel_size": 3}
TORCH: dict[str, Any] = {"kind": "torch_transformer", "num_heads": 2, "d_ffn": 8}


@pytest.mark.parametrize("other", [GRU, CONFORMER, TORCH], ids=lambda other: other["kind"])
@pytest.mark.parametrize("path", ["intra_model", "inter_model"])
def test_models_of_other_kinds_see_each_item_alone(
    path: str, other: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one pass with gradients, and block by block without."""
    model = tiny(**{path: other}, linear_after_transformer=True, norm=None, input_norm="bN")
    mixture = torch.randn(2, 500, dtype=torch.float64)
    expected = torch.cat([model(item[None]) for item in mixture])
    torch.testing.assert_close(model(mixture), expected, rtol=1e-9, atol=1e-9)
    monkeypatch.setattr(dual_path, "frames_per_block", lambda _: 45)
    with torch.no_grad():
        torch.testing.assert_close(model(mixture), expected, rtol=1e-9, atol=1e-9)
    model.train()
    model(mixture).square().sum().backward()
    assert all(each.grad is not None for each in model.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_heads": 5}, "d_model 12 must be a multiple of num_heads 5"),
        ({"d_model": 9, "num_heads": 3}, "d_model 9 must be even for a positional encoding"),
        ({"kernel_size": 1}, "kernel_size"),
        ({"chunk_size": 1}, "chunk_size"),
        ({"norm": "bN"}, "norm"),
        ({"num_intra_layers": 10**9}, "num_intra_layers"),
        ({"stride": 4}, "model.stride: unknown key"),
        ({"norm": None}, "norm null needs an input_norm: gLN, cLN or bN"),
        (
            {"intra_model": {"kind": "conformer", "num_heads": 5}},
            "d_model 12 must be a multiple of num_heads 5",
        ),
        (
            {"intra_model": {"kind": "conformer", "conv_kernel_size": 4}},
            "conv_kernel_size: must be odd, got 4",
        ),
        (
            {"intra_model": {"kind": "conformer", "num_head": 5}},
            "intra_model.num_head: unknown key of Conformer",
        ),
        (
            {"intra_model": {"kind": "conform"}},
            "intra_model.kind: expected one of conformer, .*got 'conform'",
        ),
        ({"inter_model": {"num_heads": 4}}, "inter_model.kind: expected one of conformer, .*got None"),
        ({"inter_model": GRU}, "a recurrent network's 10 outputs must be the 12 of d_model"),
        ({"inter_model": {**GRU, "hidden_size": 6}, "across": {"d_ffn": 3}}, "leave across out"),
        ({"intra_model": {**GRU, "hidden_size": 6}, "inter_model": CONFORMER}, "leave num_heads out"),
    ],
)
def test_bad_configurations_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        create_model("sepformer", preset="tiny", **options)
