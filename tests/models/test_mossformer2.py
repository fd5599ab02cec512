"""MossFormer2's blocks against the reference and a naive rewriting; padded batches; sizes."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from polsess.checkpoints.toolkits.clearervoice import native_name, native_shape
from polsess.models import create_model
from polsess.models.layers.positions import RotaryRates
from polsess.models.mossformer2 import (
    GatedAttention,
    GatedMemory,
    MossFormer2,
    MossFormer2Config,
)
from polsess.schema import ConfigError
from tests.conftest import GOLDEN

SIZES = json.loads((GOLDEN / "mossformer2" / "sizes.json").read_text())


def moss(**overrides: Any) -> MossFormer2:
    model = create_model("mossformer2", preset="tiny", **overrides).eval()
    assert isinstance(model, MossFormer2)
    return model


def perturb(model: nn.Module) -> None:
    """Large enough that every path has a part in the output."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, mean=0.2 if parameter.ndim == 1 else 0.0, std=0.4)


def load_block(block: nn.Module, path: str, published: str, ours: str) -> None:
    state = load_file(GOLDEN / f"{path}.weights.safetensors")
    named = {native_name(f"mask_net.mdl.intra_mdl.mossformerM.{published}.{k}"): v for k, v in state.items()}
    block.load_state_dict(
        {k.removeprefix(ours): native_shape(k, v) for k, v in named.items() if not k.endswith("freqs")}
    )


def check_block(run: Any, path: str) -> None:
    tensors = load_file(GOLDEN / f"{path}.f64.safetensors")
    frames = tensors["x"].requires_grad_()
    output = run(frames)
    (gradient,) = torch.autograd.grad(output, frames, tensors["probe"])
    torch.testing.assert_close(output, tensors["y"], rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(gradient, tensors["grad_x"], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(
    ("weights", "case", "overrides"),
    [
        ("g16", "B2_L37", {"num_filters": 16, "group_size": 16, "query_key_dim": 40}),
        ("g16", "B3_L5", {"num_filters": 16, "group_size": 16, "query_key_dim": 40}),
        (
            "noshift_ln",
            "B2_L17",
            {"num_filters": 10, "group_size": 8, "query_key_dim": 24, "rotary_dim": 24}
            | {"shift_tokens": False, "attention_norm": "layer"},
        ),
    ],
)
def test_attention_is_the_reference_s(weights: str, case: str, overrides: dict[str, Any]) -> None:
    config = MossFormer2Config(**overrides)
    block = GatedAttention(config).eval()
    load_block(block, f"flash_gau/{weights}", "layers.0", "blocks.0.attention.")
    block.double()

    def run(frames: Tensor) -> Tensor:
        return block(frames, RotaryRates(config.rotary_dim)(frames.shape[1], frames), None)

    check_block(run, f"flash_gau/{weights}.{case}")


@pytest.mark.parametrize("case", ["B2_L45", "B1_L7"])
def test_memory_is_the_reference_s(case: str) -> None:
    block = GatedMemory(MossFormer2Config(num_filters=16, memory_dim=20)).eval()
    load_block(block, "gated_fsmn/c20", "fsmn.0", "blocks.0.memory.")
    block.double()
    check_block(lambda frames: block(frames, None), f"gated_fsmn/c20.{case}")


@pytest.mark.parametrize("preset", sorted(SIZES["parameters"]))
def test_presets_have_the_published_number_of_parameters(preset: str) -> None:
    with torch.device("meta"):
        model = create_model("mossformer2", preset=preset)
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count == SIZES["parameters"][preset]


def naive_memory(block: GatedMemory, frames: Tensor, order: int) -> Tensor:
    """Filters as explicit sums, the second over neighbouring pairs of a concatenation."""
    dense = block.memory
    squeezed = block.squeeze(frames)
    features = block.to_memory(squeezed, None)
    projected = dense.project(features)

    def taps(values: Tensor, weight: Tensor, dilation: int) -> Tensor:
        reach = (order - 1) * dilation
        padded = F.pad(values, (0, 0, reach, reach))
        length = values.shape[1]
        shifted = [padded[:, k * dilation : k * dilation + length] for k in range(2 * order - 1)]
        return sum((shifted[k] * weight[:, 0, k] for k in range(2 * order - 1)), torch.zeros(()))

    first = F.instance_norm(
        taps(projected, dense.conv.weight, 1).mT, weight=dense.norm.weight, bias=dense.norm.bias
    )
    first = F.prelu(first, dense.activation.weight).mT
    both = taps(torch.cat([first, projected], -1), dense.pair_conv.weight, 2)
    second = F.instance_norm(
        (both[..., 0::2] + both[..., 1::2]).mT, weight=dense.pair_norm.weight, bias=dense.pair_norm.bias
    )
    second = F.prelu(second, dense.pair_activation.weight).mT
    return frames + block.expand(squeezed + block.to_gate(squeezed, None) * (features + second))


@pytest.mark.parametrize("order", [1, 3, 6])
def test_memory_of_any_order_equals_explicit_sums(order: int) -> None:
    config = MossFormer2Config(num_filters=8, memory_dim=6, memory_order=order, attention_kernel_size=3)
    block = GatedMemory(config).eval()
    perturb(block)
    frames = torch.randn(2, 30, 8)
    torch.testing.assert_close(block(frames, None), naive_memory(block, frames, order), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("group_size", "expansion"), [(1, 2), (7, 4), (50, 6)])
def test_attention_of_any_group_equals_a_double_loop(group_size: int, expansion: int) -> None:
    config = MossFormer2Config(
        num_filters=6,
        group_size=group_size,
        expansion_factor=expansion,
        query_key_dim=9,
        rotary_dim=4,
        attention_kernel_size=3,
    )
    block = GatedAttention(config).eval()
    perturb(block)
    query_key, hidden = torch.randn(1, 20, 9), torch.randn(1, 20, 6 * expansion)
    # Without rotation: the golden cases show it.
    tables = torch.ones(20, 2), torch.zeros(20, 2)
    found = block._attend(query_key, hidden, tables, None)
    heads = query_key[0, :, None] * block.scale + block.offset
    expected = torch.zeros(20, 6 * expansion)
    for row in range(20):
        for other in range(20):
            weight = heads[row, 1] @ heads[other, 3] / 20
            if row // group_size == other // group_size:
                weight = weight + (heads[row, 0] @ heads[other, 2] / group_size).relu() ** 2
            expected[row] += weight * hidden[0, other]
    torch.testing.assert_close(found[0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("output_mode", ["mask", "map"])
@pytest.mark.parametrize("num_sources", [1, 2])
def test_lengths_in_a_batch_do_not_change_each_other(output_mode: str, num_sources: int) -> None:
    model = moss(output_mode=output_mode, num_sources=num_sources)
    perturb(model)
    model.double()
    lengths = torch.tensor([3, 160, 163, 500, 511])  # too short, the minimum's side, unaligned, full
    batch = torch.randn(5, 511, dtype=torch.float64)  # noise behind the ends, too, which must not be heard
    with torch.no_grad():
        together = model(batch, lengths)
        for row, length in enumerate(lengths.tolist()):
            alone = model(batch[row : row + 1, :length])[0]
            torch.testing.assert_close(together[row, ..., :length], alone, rtol=1e-9, atol=1e-9)
            assert not together[row, ..., length:].any()


def test_gradients_of_a_padded_batch_are_those_of_its_items() -> None:
    model = moss().double()
    perturb(model)
    lengths, batch = torch.tensor([300, 420]), torch.randn(2, 420, dtype=torch.float64)
    batch[0, 300:] = 0.0
    model(batch, lengths).square().sum().backward()
    together = {key: value.grad for key, value in model.named_parameters()}
    model.zero_grad()
    for row, length in enumerate(lengths.tolist()):
        model(batch[row : row + 1, :length]).square().sum().backward()
    for key, value in model.named_parameters():
        torch.testing.assert_close(together[key], value.grad, rtol=1e-7, atol=1e-9, msg=key)


def test_dropout_acts_in_training_only() -> None:
    model, mixture = moss(dropout=0.5), torch.randn(1, 400)
    with torch.no_grad():
        assert torch.equal(model(mixture), model(mixture))
        model.train()
        assert not torch.equal(model(mixture), model(mixture))
        assert (moss(dropout=0.0).train()(mixture)).isfinite().all()


def test_mapping_does_not_multiply_the_encoded_mixture() -> None:
    masking = moss()
    mapping = moss(output_mode="map")
    mapping.load_state_dict(masking.state_dict())
    mixture = torch.randn(1, 300)
    with torch.no_grad():
        encoded = masking.encoder(mixture[None]).relu().mT
        frames = torch.randn(1, encoded.shape[1], 16)
        expected = mapping._output(frames, encoded) * encoded.unsqueeze(2)
        torch.testing.assert_close(masking._output(frames, encoded), expected)
        assert not torch.equal(masking(mixture), mapping(mixture))


def test_reduced_precision_keeps_statistics_in_float32() -> None:
    model = moss().eval()
    mixture = torch.randn(1, 2000)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        reduced = model(mixture)
    with torch.no_grad():
        exact = model(mixture)
    assert (reduced.float() - exact).norm() < 0.05 * exact.norm()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"attention_kernel_size": 16}, "attention_kernel_size must be odd, got 16"),
        ({"rotary_dim": 14}, "rotary_dim must not exceed query_key_dim 12, got 14"),
        ({"rotary_dim": 7}, "multiple of 2"),
        ({"num_filters": 15}, "multiple of 2"),
        ({"kernel_size": 9}, "multiple of 2"),
        ({"output_mode": "both"}, "'mask' or 'map'"),
    ],
)
def test_configurations_that_cannot_be_are_refused(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        moss(**overrides)
