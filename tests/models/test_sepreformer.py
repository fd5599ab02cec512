"""SepReformer's parts against naive rewritings; sizes; auxiliary outputs; long mixtures."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from polsess.models import create_model
from polsess.models.layers import relative_attention
from polsess.models.layers.relative_attention import RelativeAttention, distance_scores
from polsess.models.sepreformer import (
    Fusion,
    GlobalBlock,
    Halving,
    OutputHead,
    SepReformer,
    SepReformerConfig,
    SpeakerBlock,
    Split,
)
from polsess.schema import ConfigError


def reformer(**overrides: Any) -> SepReformer:
    model = create_model("sepreformer", preset="tiny", **overrides).eval()
    assert isinstance(model, SepReformer)
    return model


def perturb(model: nn.Module) -> None:
    """Large enough that every path has a part in the output."""
    for parameter in model.parameters():
        nn.init.normal_(parameter, mean=0.2 if parameter.ndim == 1 else 0.0, std=0.4)


def naive_attention(block: RelativeAttention, tokens: Tensor, distances: Tensor | None) -> Tensor:
    """Loops over heads, queries and keys of one sequence ``[Q, F]``."""
    length, features = tokens.shape
    query, key, value = block.qkv(block.norm(tokens)).chunk(3, dim=-1)
    size = features // block.num_heads
    mixed = torch.zeros(length, features)
    for head in range(block.num_heads):
        part = slice(head * size, (head + 1) * size)
        scores = query[:, part] @ key[:, part].T
        for i in range(length):
            for j in range(length):
                if distances is not None:
                    reach = len(distances) // 2
                    row = min(max(i - j, -reach), reach - 1) + reach
                    scores[i, j] += query[i, part] @ distances[row]
        mixed[:, part] = (scores / size**0.5).softmax(-1) @ value[:, part]
    return block.out(mixed) * block.scale


@pytest.mark.parametrize("length", [1, 2, 9])
@pytest.mark.parametrize("reach", [None, 1, 3, 20])
def test_attention_equals_loops_over_pairs(length: int, reach: int | None) -> None:
    block = RelativeAttention(6, 2, 0.3).eval()
    perturb(block)
    distances = None if reach is None else torch.randn(2 * reach, 3)
    tokens = torch.randn(2, length, 6)
    with torch.no_grad():
        found = block(tokens, distances)
        for row in range(2):
            torch.testing.assert_close(
                found[row], naive_attention(block, tokens[row], distances), rtol=1e-4, atol=1e-5
            )


@pytest.mark.parametrize("length", [1, 7, 30])
def test_blocks_of_queries_give_the_same(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    block = RelativeAttention(6, 2, 0.0).double()
    perturb(block)
    tokens, distances = torch.randn(1, length, 6).double(), torch.randn(10, 3).double()
    whole = block(tokens, distances)
    starts: list[int] = []

    def recorded(query: Tensor, distances: Tensor, start: int, length: int) -> Tensor:
        starts.append(start)
        return distance_scores(query, distances, start, length)

    monkeypatch.setattr(relative_attention, "distance_scores", recorded)
    monkeypatch.setattr(relative_attention, "_MAX_SCORES", 5 * length)
    torch.testing.assert_close(block(tokens, distances), whole, rtol=1e-9, atol=1e-12)
    assert starts == list(range(0, length, 5))


def test_distance_scores_of_a_later_block() -> None:
    query, distances = torch.randn(4, 5), torch.randn(12, 5)
    found = distance_scores(query, distances, start=3, length=10)
    for i in range(4):
        for j in range(10):
            row = distances[min(max(3 + i - j, -6), 5) + 6]
            torch.testing.assert_close(found[i, j], query[i] @ row)


def test_global_block_gates_the_attention_over_averages() -> None:
    block = GlobalBlock(SepReformerConfig(num_features=8, num_heads=2))
    block.eval()
    perturb(block)
    frames, distances = torch.randn(2, 12, 8), torch.randn(10, 4)
    pooled = F.avg_pool1d(frames.mT, 4).mT
    spread = F.interpolate(block.attention(pooled, distances).mT, scale_factor=4.0).mT
    expected = block.feed_forward(frames + block.gate(frames) * spread)
    torch.testing.assert_close(block(frames, distances, 4), expected)


@pytest.mark.parametrize("num_sources", [1, 2, 3])
def test_speakers_attend_within_a_frame_only(num_sources: int) -> None:
    block = SpeakerBlock(SepReformerConfig(num_features=8, num_heads=2, num_sources=num_sources)).eval()
    perturb(block)
    frames = torch.randn(2 * num_sources, 5, 8)
    expected = frames.clone()
    for item in range(2):
        rows = slice(item * num_sources, (item + 1) * num_sources)
        for frame in range(5):
            expected[rows, frame] += naive_attention(block.attention, frames[rows, frame], None)
    torch.testing.assert_close(block(frames), block.feed_forward(expected), rtol=1e-4, atol=1e-4)


def test_split_keeps_each_source_together_and_normalises_it() -> None:
    block = Split(4, 3)
    perturb(block)
    frames = torch.randn(2, 7, 4)
    found = block(frames)
    sources = block.layers(frames)  # [B, L, C*F]
    for item in range(2):
        for source in range(3):
            part = sources[item, :, source * 4 : source * 4 + 4]
            expected = F.group_norm(part.T[None], 1, block.norm.weight, block.norm.bias, 1e-8)[0].T
            torch.testing.assert_close(found[item * 3 + source], expected)


def test_fusion_joins_the_doubled_frames_with_the_skip() -> None:
    block, below, skip = Fusion(4), torch.randn(2, 3, 4), torch.randn(2, 6, 4)
    joined = torch.cat([below.repeat_interleave(2, dim=1), skip], dim=-1)
    torch.testing.assert_close(block(below, skip), block.linear(joined))


@pytest.mark.parametrize("kernel_size", [1, 5])
def test_halving_is_a_strided_convolution(kernel_size: int) -> None:
    block, frames = Halving(4, kernel_size), torch.randn(2, 10, 4)
    halved = F.conv1d(
        frames.mT, block.conv.weight, block.conv.bias, stride=2, padding=kernel_size // 2, groups=4
    )
    torch.testing.assert_close(block(frames), F.gelu(F.batch_norm(halved, None, None, training=True)).mT)


@pytest.mark.parametrize("num_stages", [1, 3])
@pytest.mark.parametrize("shared_split", [True, False])
def test_auxiliary_estimates_mask_the_mixture_at_every_rate(num_stages: int, shared_split: bool) -> None:
    model = reformer(num_stages=num_stages, shared_split=shared_split)
    perturb(model)
    mixture = torch.randn(2, 300)
    with torch.no_grad():
        estimates, auxiliary = model.forward_with_auxiliary(mixture)
        torch.testing.assert_close(estimates, model(mixture))
        encoded = model._encode(mixture)
        stages = model._separate(encoded)[:-1]
        assert len(auxiliary) == len(stages) == num_stages
        for index, stage in enumerate(stages):
            head = model.auxiliary[index]
            assert isinstance(head, OutputHead)
            repeated = F.interpolate(stage.mT, size=encoded.shape[1]).mT  # [B*C, L, F]
            masks = head.layers(repeated).relu()
            masked = masks * encoded.repeat_interleave(2, dim=0)
            expected = head.decoder(masked.mT).view(2, 2, -1)
            torch.testing.assert_close(auxiliary[index][..., : expected.shape[-1]], expected)


def test_auxiliary_heads_have_no_part_in_the_estimate() -> None:
    model, mixture = reformer(), torch.randn(1, 200)
    with torch.no_grad():
        before = model(mixture)
        perturb(model.auxiliary)
        assert torch.equal(model(mixture), before)


def test_stages_that_share_no_split_differ() -> None:
    shared, apart = reformer(), reformer(shared_split=False)
    assert (len(shared.splits), len(apart.splits)) == (1, 3)
    perturb(shared)
    state = {key: value for key, value in shared.state_dict().items() if not key.startswith("splits")}
    apart.load_state_dict(state, strict=False)
    for split in apart.splits:
        split.load_state_dict(shared.splits[0].state_dict())
    mixture = torch.randn(1, 250)
    with torch.no_grad():
        torch.testing.assert_close(apart(mixture), shared(mixture))
        changed = apart.splits[1]
        assert isinstance(changed, Split)
        nn.init.normal_(changed.norm.weight)
        assert not torch.allclose(apart(mixture), shared(mixture))


@pytest.mark.parametrize(("preset", "count"), [("base", 14_691_584), ("large", 56_816_384)])
def test_presets_have_the_published_number_of_parameters(preset: str, count: int) -> None:
    with torch.device("meta"):
        model = create_model("sepreformer", preset=preset)
    assert sum(parameter.numel() for parameter in model.parameters()) == count


@pytest.mark.parametrize(("kernel_size", "stride"), [(16, 4), (8, 8), (5, 2)])
def test_frames_of_any_size(kernel_size: int, stride: int) -> None:
    model = reformer(kernel_size=kernel_size, stride=stride)
    mixture = torch.randn(2, 203)
    with torch.no_grad():
        assert model(mixture).shape == (2, 2, 203)
        frames = (203 - kernel_size) // stride + 1
        assert model.estimate_sources(mixture).shape[-1] == (frames - 1) * stride + kernel_size


def test_dropout_acts_in_training_only() -> None:
    model, mixture = reformer(dropout=0.5), torch.randn(2, 300)
    perturb(model)
    with torch.no_grad():
        assert torch.equal(model(mixture), model(mixture))
        model.train()
        assert not torch.equal(model(mixture), model(mixture))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"stride": 20}, "stride 20 skips samples of kernel_size 16"),
        ({"num_heads": 3}, "num_heads must divide num_features 8, got 3"),
        ({"local_kernel_size": 4}, "local_kernel_size must be odd, got 4"),
        ({"sampling_kernel_size": 2}, "sampling_kernel_size must be odd, got 2"),
    ],
)
def test_configurations_that_cannot_be_are_refused(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        reformer(**overrides)


@pytest.mark.parametrize(
    ("preset", "number", "with_auxiliary"),
    [("focused_base", 14_149_952, 14_693_696), ("focused_large", 55_226_240, 56_820_608)],
)
def test_published_sizes_with_focused_attention(preset: str, number: int, with_auxiliary: int) -> None:
    with torch.device("meta"):
        model = create_model("sepreformer", preset=preset)
    total = sum(parameter.numel() for parameter in model.parameters())
    heads = sum(parameter.numel() for parameter in model.get_submodule("auxiliary").parameters())
    assert (total - heads, total) == (number, with_auxiliary)


def test_silence_with_focused_attention_is_finite() -> None:
    with torch.no_grad():
        assert reformer(attention="focused")(torch.zeros(1, 400)).isfinite().all()
