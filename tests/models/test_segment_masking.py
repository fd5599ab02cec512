"""RE-SepFormer and SkiM: every option against loops over segments, causality, sizes, bad configurations."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from polsess.models import SeparationModel, create_model
from polsess.schema import ConfigError
from tests.models.naive_transformers import analyse, prelu, synthesise, token_norm, transformer

EPS = 2.0**-23
BOUND = {"relu": torch.relu, "sigmoid": torch.sigmoid, "tanh": torch.tanh}


def tiny(name: str, **overrides: Any) -> Any:
    """A small model in double precision, no parameter at a value that would hide it."""
    model = create_model(name, preset="tiny", **overrides).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def naive(model: Any, mixture: Tensor, process: Any) -> Tensor:
    """One item ``[T]`` to ``[C, T]``; ``process`` maps segments ``[S, K, N]``."""
    config, size = model.config, model.config.segment_size
    encoded = analyse(mixture, model)
    filters, length = encoded.shape
    rest = size - length % size  # a whole segment of zeros where the length fits
    padded = torch.cat([encoded.T, encoded.new_zeros(rest, filters)])
    frames = process(model, padded.reshape(-1, size, filters)).reshape(-1, filters)[:length]
    logits = prelu(frames, model.activation) @ model.to_masks.weight.T + model.to_masks.bias
    masks = BOUND[config.mask_activation](logits).reshape(length, config.num_sources, filters)
    return torch.stack(
        [synthesise(encoded * masks[:, c].T, model, len(mixture)) for c in range(config.num_sources)]
    )


def process_resepformer(model: Any, segments: Tensor) -> Tensor:
    config = model.config

    def run(x: Tensor, network: Any) -> Tensor:
        y = transformer(
            x,
            network.transformer,
            norm_first=config.norm_first,
            activation=config.activation,
            pe=config.positional_encoding,
            causal=config.causal_attention,
        )
        y = token_norm(y, network.norm, config.norm, EPS) if config.norm else y
        return y + x if config.skip else y

    for index, network in enumerate(model.segment_models):
        if index and config.memory == "mean":
            memory = run(segments.mean(dim=1), model.memory_models[index - 1])
            segments = segments + memory[:, None]
        segments = torch.stack([run(segment, network) for segment in segments])
    return segments


def process_skim(model: Any, segments: Tensor) -> Tensor:
    """Segment by segment; a state is ``[D, H]``."""
    config = model.config
    shape = (1 + config.bidirectional, config.hidden_size)
    zeros = segments.new_zeros(len(segments), *shape)
    hidden, cell = zeros, zeros
    for index, network in enumerate(model.segment_models):
        outputs, states = [], []
        for segment, h, c in zip(segments, hidden, cell, strict=True):
            output, state = network.lstm(segment, (h, c))
            output = output @ network.project.weight.T + network.project.bias
            outputs.append(segment + token_norm(output, network.norm, config.norm, EPS))
            states.append(state)
        segments = torch.stack(outputs)
        hidden, cell = (torch.stack(state) for state in zip(*states, strict=True))
        if index < len(model.memories):
            memory = model.memories[index]
            hidden = pass_on(hidden, memory.hidden, config, zeros)
            cell = pass_on(cell, memory.cell, config, zeros)
    return segments


def pass_on(states: Tensor, network: Any, config: Any, zeros: Tensor) -> Tensor:
    """``[S, D, H]`` through one memory LSTM."""
    if config.memory == "none" or (network is None and config.memory != "id"):
        return zeros
    if network is not None:
        flat = states.flatten(1)
        output = network.lstm(flat)[0] @ network.project.weight.T + network.project.bias
        states = (flat + token_norm(output, network.norm, config.norm, EPS)).reshape(states.shape)
    if config.bidirectional:
        return states
    return torch.cat([zeros[:1], states[:-1]])


RESEPFORMER: list[dict[str, Any]] = [
    {},
    {"norm_first": False},
    {"positional_encoding": False, "num_filters": 9, "num_heads": 3},
    {"activation": "gelu"},
    {"norm": "cLN"},
    {"norm": None},
    {"skip": False},
    {"memory": "none"},
    {"causal_attention": True, "norm": "cLN"},
    {"num_blocks": 3, "num_memory_layers": 2, "num_sources": 3, "mask_activation": "tanh"},
    {"segment_size": 7, "kernel_size": 41, "num_sources": 1, "mask_activation": "sigmoid"},
    {"segment_size": 1, "kernel_size": 2, "num_segment_layers": 2},
]
SKIM: list[dict[str, Any]] = [
    {},
    {"memory": "h"},
    {"memory": "c", "num_blocks": 3},
    {"memory": "id"},
    {"memory": "none"},
    {"bidirectional": False},
    {"bidirectional": False, "norm": "cLN"},
    {"bidirectional": False, "norm": "cLN", "memory": "id", "mask_activation": "tanh"},
    {"norm": "cLN", "num_sources": 3, "kernel_size": 5, "mask_activation": "sigmoid"},
    {"num_sources": 1, "segment_size": 1, "num_blocks": 1},
]


@pytest.mark.parametrize(
    ("name", "options"),
    [*(("resepformer", each) for each in RESEPFORMER), *(("skim", each) for each in SKIM)],
    ids=str,
)
@pytest.mark.parametrize("num_frames", [23, 40])  # 40: whole segments of 20
def test_every_option_equals_the_loops(name: str, options: dict[str, Any], num_frames: int) -> None:
    model = tiny(name, **options)
    mixture = torch.randn(2, (num_frames + 1) * model.hop_length, dtype=torch.float64)
    process = process_resepformer if name == "resepformer" else process_skim
    with torch.no_grad():
        expected = torch.stack([naive(model, item, process) for item in mixture])
        expected = expected.squeeze(1) if model.output_sources == 1 else expected
        torch.testing.assert_close(model(mixture), expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(model(mixture), expected, rtol=1e-9, atol=1e-9)


def first_change(model: SeparationModel, cut: int) -> int:
    """The first estimated sample that changes when the mixture does from ``cut`` on."""
    mixture = torch.randn(1, 1500, dtype=torch.float64)
    changed = mixture.clone()
    changed[:, cut:] += 1.0
    with torch.no_grad():
        difference = (model(changed) - model(mixture)).abs().amax(dim=(0, 1))
    return int(difference.nonzero()[0])


CAUSAL: list[tuple[str, dict[str, Any], int]] = [  # and the whole frames ahead
    ("skim", {"bidirectional": False, "norm": "cLN"}, 0),
    ("skim", {"bidirectional": False, "norm": "cLN", "memory": "id"}, 0),
    ("skim", {"bidirectional": False, "norm": "gLN", "memory": "id"}, 19),
    ("skim", {"bidirectional": False, "norm": "gLN", "num_blocks": 1}, 19),
    ("skim", {"bidirectional": False, "norm": "bN", "memory_norm": "cLN"}, 0),
    ("skim", {"bidirectional": False, "norm": "cLN", "overlap": True}, 9),
    ("skim", {"bidirectional": False, "norm": "cLN", "overlap": True, "segment_size": 13}, 6),
    ("skim", {"bidirectional": False, "norm": "cLN", "overlap": True, "memory": "none"}, 0),
    ("resepformer", {"causal_attention": True, "norm": "cLN", "memory": "none"}, 0),
    ("resepformer", {"causal_attention": True, "norm": "cLN"}, 19),
    ("resepformer", {"causal_attention": True, "norm": None}, 19),
    ("resepformer", {"causal_attention": True, "memory_transformer": {"norm": "none"}}, 19),
    ("resepformer", {"causal_attention": True, "norm": "gLN", "memory": "none"}, 19),
]


@pytest.mark.parametrize(("name", "options", "frames"), CAUSAL, ids=str)
def test_causal_means_causal(name: str, options: dict[str, Any], frames: int) -> None:
    model = tiny(name, **options)
    assert model.causal
    look_ahead = model.look_ahead_samples
    assert look_ahead == frames * 8 + 15
    changes = [first_change(model, cut) for cut in range(630, 650)]
    assert all(change >= cut - look_ahead for change, cut in zip(changes, range(630, 650), strict=True))
    assert any(
        change < cut for change, cut in zip(changes, range(630, 650), strict=True)
    )  # not stated too far


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("skim", {}),
        ("skim", {"overlap": True}),
        ("skim", {"bidirectional": False, "norm": "cLN", "memory_norm": "gLN"}),
        ("skim", {"bidirectional": False}),  # the memory is normalised over all segments
        ("resepformer", {}),
        ("resepformer", {"causal_attention": True}),
        ("resepformer", {"causal_attention": True, "norm": "cLN", "memory_transformer": {"norm": "gLN"}}),
        ("resepformer", {"causal_attention": True, "memory_transformer": {"causal_attention": False}}),
    ],
)
def test_what_sees_the_whole_utterance_says_so(name: str, options: dict[str, Any]) -> None:
    model = tiny(name, **options)
    assert not model.causal
    assert model.look_ahead_samples is None
    assert first_change(model, 1400) <= 160  # the first segment of SkiM starts from zeros


def test_published_sizes() -> None:
    sizes = {("resepformer", "resepformer-wsj02mix"): 7_955_201, ("skim", "skim-wsj02mix"): 14_506_753}
    for (name, preset), size in sizes.items():
        with torch.device("meta"):
            model = create_model(name, preset=preset)
        assert sum(parameter.numel() for parameter in model.parameters()) == size
    with torch.device("meta"):
        assert create_model("skim", preset="skim-causal").causal


@pytest.mark.parametrize("name", ["resepformer", "skim"])
def test_dropout_acts_in_training_only(name: str) -> None:
    model, mixture = tiny(name, dropout=0.5), torch.randn(1, 400, dtype=torch.float64)
    assert torch.equal(model(mixture), model(mixture))
    model.train()
    assert not torch.allclose(model(mixture), model(mixture))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resepformer", {"num_heads": 5}, "num_filters 12 must be a multiple of num_heads 5"),
        ("resepformer", {"num_filters": 9, "num_heads": 3}, "num_filters 9 must be even"),
        ("resepformer", {"memory": "hc"}, "model.memory"),
        (
            "resepformer",
            {"memory": "none", "memory_transformer": {"d_ffn": 3}},
            "leave memory_transformer out",
        ),
        (
            "resepformer",
            {"memory_transformer": {"num_heads": 5}},
            "num_filters 12 must be a multiple of num_heads 5",
        ),
        ("skim", {"overlap": True, "segment_size": 1}, "overlap needs a segment_size of at least 2"),
        ("skim", {"memory": "av"}, "model.memory"),
        ("skim", {"segment_size": 0}, "model.segment_size"),
        ("skim", {"causal": True}, "model.causal: unknown key"),
    ],
)
def test_bad_configurations_are_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        create_model(name, preset="tiny", **options)
