"""Causal networks piece by piece: the same estimates, the stated latency, a state of tensors."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import pytest
import torch

from polsess.inference import StreamingSeparator
from polsess.models import SeparationModel, create_model, get_model_class, list_models
from polsess.models.streaming import StreamingModel, check_streams

DPRNN = {"model_type": "dprnn", "inter_bidirectional": False, "norm": "cgLN"}
SKIM = {"model_type": "skim", "bidirectional": False, "norm": "cLN", "num_blocks": 3}
RESEPFORMER = {"model_type": "resepformer", "causal_attention": True, "memory": "none"}
CONFIGS: Mapping[str, dict[str, Any]] = {
    "convtasnet": {"model_type": "convtasnet", "causal": True, "norm": "cLN"},
    "convtasnet-cumulative": {
        "model_type": "convtasnet", "causal": True, "norm": "cgLN", "conv_kernel_size": 4, "stride": 8,
    },
    "convtasnet-delayed": {
        "model_type": "convtasnet", "causal": True, "norm": "bN", "padding": "delayed", "stride": 3,
    },
    "lstmtasnet": {"model_type": "lstmtasnet", "bidirectional": False},
    "dprnn": DPRNN,
    "dprnn-uneven": {**DPRNN, "chunk_size": 21, "hop_size": 8, "rnn_type": "GRU", "multiplicative": True},
    "dprnn-half": {**DPRNN, "chunk_padding": "half"},
    "dprnn-half-odd": {**DPRNN, "chunk_padding": "half", "chunk_size": 21},
    "dprnn-forwards": {**DPRNN, "norm": "cLN", "intra_bidirectional": False},
    "skim": SKIM,
    "skim-hidden": {**SKIM, "memory": "h"},
    "skim-identity": {**SKIM, "memory": "id"},
    "skim-none": {**SKIM, "memory": "none"},
    "skim-segment-norm": {**SKIM, "norm": "gLN", "memory_norm": "cLN"},
    "skim-overlap": {**SKIM, "overlap": True},
    "skim-overlap-odd": {**SKIM, "overlap": True, "segment_size": 21},
    "resepformer": {**RESEPFORMER, "norm": "cLN"},
    "gtcrn": {"model_type": "gtcrn", "num_sources": 2},
}  # fmt: skip
PUSHES = [(1, 1), (7, 3), (8, 8), (257, 257), (300, 13), (512, 64), (1501, 1000)]


def created(name: str) -> SeparationModel:
    torch.manual_seed(0)
    model = create_model({"preset": "tiny", **CONFIGS[name]}).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # no bias and no norm is neutral
            parameter.add_(0.1 * torch.randn_like(parameter) * parameter.requires_grad)
    return model


@pytest.mark.parametrize("name", CONFIGS)
def test_pieces_of_any_size_give_what_the_whole_gives_at_the_stated_latency(name: str) -> None:
    model, generator = created(name), torch.Generator().manual_seed(1)
    stream = StreamingSeparator(model)
    for length, size in PUSHES:
        mixture = torch.randn(length, generator=generator)
        expected = model(mixture[None]).detach().view(-1, length)
        given: list[torch.Tensor] = []
        pushed = 0
        for piece in mixture.split(size):
            given.append(stream.push(piece))
            pushed += len(piece)
            missing = pushed - sum(each.shape[-1] for each in given)
            assert missing <= stream.latency_samples, (length, size, pushed)
        given.append(stream.flush())
        torch.testing.assert_close(torch.cat(given, -1), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["convtasnet", "dprnn", "dprnn-half-odd", "skim", "skim-overlap", "gtcrn"])
def test_the_latency_is_reached_and_no_less_would_do(name: str) -> None:
    stream = StreamingSeparator(created(name))
    missing, given = [], 0
    for pushed, sample in enumerate(torch.randn(1200).split(1), start=1):
        given += stream.push(sample).shape[-1]
        missing.append(pushed - given)
    assert max(missing) == stream.latency_samples
    look_ahead = stream.model.look_ahead_samples
    assert look_ahead is not None
    assert look_ahead <= stream.latency_samples


@pytest.mark.parametrize("name", CONFIGS)
def test_the_state_is_tensors_whose_shapes_never_change(name: str) -> None:
    model = check_streams(created(name))
    head = torch.randn(2, model.stream_head)
    state = before = model.begin_stream(head)
    shapes = {key: each.shape for key, each in state.items()}
    piece = torch.randn(2, 3 * model.stream_step)
    with torch.no_grad():
        first, state = model.stream(piece, state)
        second, _ = model.stream(piece, before)
        for _ in range(4):
            _, state = model.stream(piece[:, : model.stream_step], state)
    assert torch.equal(first, second), "the state that goes in is changed"
    assert {key: each.shape for key, each in state.items()} == shapes
    assert first.shape == (2, model.output_sources, piece.shape[-1])


def test_a_copy_of_a_network_remembers_by_its_own_layers() -> None:
    model = check_streams(created("convtasnet"))
    state = model.begin_stream(torch.zeros(1, model.stream_head))
    twin = copy.deepcopy(model)
    with torch.no_grad():
        ours, _ = model.stream(torch.ones(1, 8), state)
        theirs, _ = twin.stream(torch.ones(1, 8), twin.begin_stream(torch.zeros(1, model.stream_head)))
    torch.testing.assert_close(ours, theirs)


def test_every_network_that_can_be_causal_is_tried_here() -> None:
    streaming = {name for name in list_models() if issubclass(get_model_class(name), StreamingModel)}
    assert streaming == {config["model_type"] for config in CONFIGS.values()}
    overridden = {name for name in list_models() if "causal" in vars(get_model_class(name))}
    assert overridden == streaming, "a network that can be causal must stream"


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"model_type": "convtasnet"}, "causal: true with norm: cLN"),
        ({"model_type": "skim"}, "bidirectional: false with norm: cLN"),
        ({"model_type": "resepformer", "causal_attention": True, "norm": "cLN"}, "without bound"),
        ({"model_type": "sepformer"}, "`polsess models` calls causal"),
    ],
)  # fmt: skip
def test_others_are_refused_with_the_option_that_makes_one_causal(config: Any, expected: str) -> None:
    with pytest.raises(ValueError, match=expected) as caught:
        StreamingSeparator(create_model({"preset": "tiny", **config}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [name for name in list_models() if name != "gtcrn"])
def test_the_options_that_a_refusal_names_make_a_causal_network(name: str) -> None:
    model_class = get_model_class(name)
    if not issubclass(model_class, StreamingModel):
        assert not create_model({"model_type": name, "preset": "tiny"}).causal
        return
    options = {}
    for pair in model_class.causal_options.replace(" with ", ",").replace(" and ", ",").split(","):
        key, _, value = pair.strip().partition(": ")
        options[key] = {"true": True, "false": False}.get(value, value)
    check_streams(create_model({"model_type": name, "preset": "tiny", **options}))
