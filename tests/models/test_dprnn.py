"""DPRNN's options against a step-by-step computation, causality, published sizes and bad input."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from polsess.models import create_model
from polsess.models.dprnn import DPRNN, DualPathBlock
from polsess.models.layers.masks import activate_masks
from polsess.schema import ConfigError
from tests.models.dual_path_naive import chunk_starts, cut, gated_logits, normalise, randomise

SMALL: dict[str, Any] = {
    "num_filters": 6,
    "kernel_size": 6,
    "bottleneck_channels": 5,
    "hidden_size": 4,
    "num_blocks": 2,
    "chunk_size": 8,
}


def make(**options: Any) -> DPRNN:
    model = create_model("dprnn", **{**SMALL, **options}).eval().double()
    assert isinstance(model, DPRNN)
    randomise(model)
    return model


def along(path: nn.Module, sequences: list[Tensor]) -> list[Tensor]:
    """Each sequence ``[H, L]`` on its own."""
    return [path(sequence.T.unsqueeze(1)).squeeze(1).T for sequence in sequences]


def naive_block(block: DualPathBlock, model: DPRNN, chunks: Tensor) -> Tensor:
    intra = torch.stack(along(block.intra, list(chunks.unbind(2))), 2)
    intra = normalise(intra, model.config.norm, block.intra_norm)
    intra = intra + chunks if model.config.skip_around_intra else intra
    inter = torch.stack(along(block.inter, list(intra.unbind(1))), 1)
    return normalise(inter, model.config.norm, block.inter_norm) + intra


def naive(model: DPRNN, mixture: Tensor) -> Tensor:
    """One item, channels first, chunk by chunk."""
    config = model.config
    features = model.encoder(mixture[None])[0]  # [N, L]
    num_frames = features.shape[1]
    normed = normalise(features[:, None], config.norm, model.input_norm)[:, 0]
    frames = model.bottleneck(normed.T).T
    starts, _ = chunk_starts(num_frames, config.chunk_size, config.hop_size, config.chunk_padding)
    chunks = cut(frames, starts, config.chunk_size)
    for block in model.blocks:
        assert isinstance(block, DualPathBlock)
        chunks = naive_block(block, model, chunks)
    logits = gated_logits(model.to_masks, chunks, starts, num_frames, 1.0)
    masks = activate_masks(logits[None], config.mask_activation)
    return model.decoder(masks * features)[0]


OPTIONS: list[dict[str, Any]] = [
    {},
    {"num_sources": 1, "mask_activation": "relu", "encoder_activation": "relu"},
    {"num_sources": 3, "mask_activation": "softmax", "rnn_type": "GRU"},
    {"mask_activation": "filter_softmax", "rnn_type": "RNN", "num_layers": 2},
    {"chunk_size": 7, "norm": "cLN", "stride": 4},
    {"chunk_size": 9, "hop_size": 4, "kernel_size": 2},
    {"hop_size": 3, "norm": "cgLN", "inter_bidirectional": False},
    {"hop_size": 8, "multiplicative": True, "kernel_size": 7},
    {"chunk_padding": "half", "bottleneck_bias": False, "skip_around_intra": False},
    {"chunk_padding": "half", "chunk_size": 7, "norm": "cLN", "intra_bidirectional": False},
    {"chunk_padding": "half", "chunk_size": 2, "norm": "cgLN"},
    {"linear_after_rnn": False, "bottleneck_channels": 8},
    {"linear_after_rnn": False, "bottleneck_channels": 4, "intra_bidirectional": False,
     "inter_bidirectional": False},
]  # fmt: skip


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("num_samples", [6, 61])
def test_options_equal_the_definition(options: dict[str, Any], num_samples: int) -> None:
    model = make(**options)
    mixtures = torch.randn(2, max(num_samples, model.minimum_samples), dtype=torch.float64)
    with torch.no_grad():
        expected = torch.stack([naive(model, mixture) for mixture in mixtures])
        estimates = model.estimate_sources(mixtures)
    torch.testing.assert_close(estimates, expected, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize(
    "options",
    [
        {"norm": "cLN"},
        {"norm": "cgLN"},
        {"norm": "cgLN", "intra_bidirectional": False},
        {"norm": "cLN", "intra_bidirectional": False},
        {"norm": "cLN", "chunk_padding": "half", "chunk_size": 7},
        {"norm": "cgLN", "hop_size": 3, "stride": 2},
    ],
    ids=str,
)
def test_causal_networks_do_not_see_beyond_their_look_ahead(options: dict[str, Any]) -> None:
    model = make(inter_bidirectional=False, **options)
    assert model.causal
    look_ahead = model.look_ahead_samples
    assert look_ahead is not None
    original = torch.randn(1, 400, dtype=torch.float64)
    for cut_at in (150, 203, 256):
        changed = original.clone()
        changed[:, cut_at:] += torch.randn(400 - cut_at, dtype=torch.float64)
        with torch.no_grad():
            difference = (model(changed) - model(original)).abs().amax((0, 1))
        assert difference[: cut_at - look_ahead].max() < 1e-9
        assert difference[cut_at - look_ahead : cut_at].max() > 1e-6
        assert difference[cut_at:].max() > 1e-6


def test_without_future_and_whole_chunks_one_filter_is_the_look_ahead() -> None:
    assert make(inter_bidirectional=False, intra_bidirectional=False, norm="cLN").look_ahead_samples == 5
    assert make(inter_bidirectional=False, norm="cLN").look_ahead_samples == 7 * 3 + 5


@pytest.mark.parametrize(
    "options",
    [
        {"norm": "gLN", "inter_bidirectional": False},
        {"norm": "cLN"},
        {"norm": "cLN", "inter_bidirectional": False, "mask_activation": "frame_softmax"},
    ],
)
def test_what_sees_the_future_does_not_claim_otherwise(options: dict[str, Any]) -> None:
    model = make(**options)
    assert not model.causal
    assert model.look_ahead_samples is None


@pytest.mark.parametrize(
    ("preset", "size"),
    [
        ("DPRNNTasNet-ks16_WHAM_sepclean", 3652865),
        ("DPRNNTasNet-ks2_WHAM_sepclean", 3651073),
        ("DPRNNTasNet-ks2_Libri1Mix_enhsingle_16k", 3634561),
        ("dprnn-wsj02mix", 14617089),
        ("report", 2609793),
    ],
)
def test_published_sizes(preset: str, size: int) -> None:
    with torch.device("meta"):
        model = create_model("dprnn", preset=preset)
    assert sum(parameter.numel() for parameter in model.parameters()) == size


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stride": 7}, "stride 7 skips samples"),
        ({"hop_size": 9}, "hop_size 9 skips frames"),
        ({"chunk_padding": "half", "hop_size": 4}, "leave hop_size out"),
        ({"dropout": 0.1}, "dropout acts between layers"),
        ({"linear_after_rnn": False}, "8 outputs must be the 5 bottleneck_channels"),
        ({"rnn_type": "lstm"}, "rnn_type"),
        ({"chunk_size": 1}, "chunk_size"),
        ({"bidirectional": True}, "unknown key"),
    ],
)
def test_contradictions_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(**options)
