"""Stitching: an identity comes back unchanged, and every speaker stays on one output across pauses."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from polsess.audio import as_tensor
from polsess.inference.profiles import CepstralFrames, SpeakerProfile, in_order_of_onset, order_stretches
from polsess.inference.segments import SegmentPlan, cut
from polsess.inference.stitching import Spool, Stitcher
from tests.inference.oracle import voice

RATE = 8000


def stitched(
    sources: Tensor, plan: SegmentPlan, orders: list[list[int]] | None = None, noise: Tensor | None = None
) -> Tensor:
    """Cut sources ``[C, K, T]``, shuffle each segment, add noise to what comes first, and stitch."""
    num_sources, num_channels, _ = sources.shape
    mixture = sources.sum(0)
    with Spool(num_sources * num_channels) as spool:
        stitcher = Stitcher(spool, num_sources, num_channels, plan.overlap, RATE)
        for index, (segment, _) in enumerate(cut(plan, [mixture.numpy()])):
            piece = slice(segment.keep, segment.stop)
            order = orders[index % len(orders)] if orders else list(range(num_sources))
            estimates = sources[order][..., piece]
            if noise is not None:
                estimates[0] += noise[piece]
            last = segment.stop == plan.num_samples
            stitcher.push(estimates.numpy(), mixture[:, piece].numpy(), last)
        return as_tensor(np.concatenate(list(stitcher.finish().blocks(1000)), -1))


@settings(max_examples=50, deadline=None)
@given(data=st.data(), total=st.integers(1, 4000), longest=st.integers(1, 1500), channels=st.integers(1, 2))
def test_one_source_is_reconstructed(data: st.DataObject, total: int, longest: int, channels: int) -> None:
    plan = SegmentPlan.balanced(total, longest, data.draw(st.integers(0, longest // 2)))
    sound = torch.randn(1, channels, total, generator=torch.Generator().manual_seed(total))
    torch.testing.assert_close(stitched(sound, plan), sound, rtol=1e-5, atol=1e-6)


def conversation(pause_seconds: float, seed: int) -> Tensor:
    """Two voices that talk together, pause, and talk on, ``[2, 1, T]``."""
    low, high = (500.0, 1100.0, 2400.0), (700.0, 1600.0, 3000.0)
    turns = []
    for turn in range(3):
        both = [voice(low, 5.0, seed + 10 * turn), voice(high, 5.0, seed + 10 * turn + 1)]
        if turn == 1:  # one speaks alone
            both[seed % 2] = torch.zeros_like(both[0])
        turns += [torch.stack(both), torch.zeros(2, round(pause_seconds * RATE))]
    return torch.cat(turns, 1).unsqueeze(1)


def test_the_order_survives_pauses_of_any_length() -> None:
    wrong = 0
    for seed in range(4):
        for pause in (0.0, 5.0):
            sources = conversation(pause, seed)
            plan = SegmentPlan.balanced(sources.shape[-1], 2 * RATE, RATE // 2)
            orders = [[0, 1], [1, 0], [1, 0], [0, 1], [1, 0], [0, 1], [0, 1]]
            result = stitched(sources, plan, orders)
            error = min((result - sources).square().sum(), (result - sources.flip(0)).square().sum())
            wrong += int(error > 1e-4 * sources.square().sum())
    assert wrong == 0


def test_steady_noise_in_pauses_does_not_decide_the_order() -> None:
    sources = conversation(3.0, 2)
    plan = SegmentPlan.balanced(sources.shape[-1], 2 * RATE, RATE // 2)
    chance = random.Random(0)
    orders = [chance.sample([0, 1], 2) for _ in plan]
    result = stitched(sources, plan, orders, noise=0.02 * torch.randn(sources.shape[-1]))
    errors = [(result - each).square().sum() for each in (sources, sources.flip(0))]
    assert min(errors) < 0.1 * sources.square().sum()


def test_three_speakers_keep_their_order_on_the_overlap() -> None:
    formants = [(400.0, 900.0), (600.0, 1500.0), (900.0, 2500.0)]
    sources = torch.stack([voice(each, 9.0, index) for index, each in enumerate(formants)]).unsqueeze(1)
    sources[0, :, : RATE // 2] = sources[1, :, :RATE] = 0  # so that the last begins, then the first
    plan = SegmentPlan.balanced(sources.shape[-1], 2 * RATE, RATE // 2)
    result = stitched(sources, plan, [[2, 0, 1], [0, 1, 2], [1, 2, 0], [0, 2, 1]])
    torch.testing.assert_close(result, sources[[2, 0, 1]], rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize(("lead", "level"), [(0.0, 0.0), (0.7, 0.0), (0.7, 0.01)])
def test_the_voice_that_is_heard_first_is_the_first(lead: float, level: float) -> None:
    sources = conversation(3.0, 2)
    sources[1, :, : RATE // 2] = 0
    sources = torch.nn.functional.pad(sources, (round(lead * RATE), 0))
    noise = level * torch.randn_like(sources)  # that the network leaves on all outputs
    plan = SegmentPlan.balanced(sources.shape[-1], 2 * RATE, RATE // 2)
    for order in ([0, 1], [1, 0]):
        for orders in ([order], [order, [1, 0], [0, 1], [0, 1]]):
            result = stitched(sources + noise, plan, orders)
            assert (result - sources).square().sum() < 0.05 * sources.square().sum()


@pytest.mark.parametrize(
    ("onsets", "places", "expected"),
    [
        ([0, 100, 50], [0, 1, 2], (0, 2, 1)),
        ([7, 0, 4], [2, 1, 0], (2, 1, 0)),
        ([7, 0, 4], [1, 0, 2], (1, 0, 2)),
        ([8, 0, 16], [2, 1, 0], (1, 2, 0)),
        ([30, 30], [1, 0], (1, 0)),
    ],
)
def test_voices_that_begin_together_keep_the_model_s_order(
    onsets: list[int], places: list[int], expected: tuple[int, ...]
) -> None:
    assert in_order_of_onset(onsets, places) == expected


def test_channels_have_one_order() -> None:
    sources = conversation(3.0, 1)
    far = 0.4 * sources.roll(9, dims=-1)
    stereo = torch.cat([sources, far], 1)
    plan = SegmentPlan.balanced(stereo.shape[-1], 2 * RATE, RATE // 2)
    shuffled = torch.cat([sources, far.flip(0)], 1)
    result = stitched(shuffled, plan, [[0, 1], [1, 0]])
    errors = [(result - reference).square().sum() for reference in (stereo, stereo.flip(0))]
    assert min(errors) < 1e-4 * stereo.square().sum()


def profile(formants: tuple[float, ...], seconds: float, seed: int) -> SpeakerProfile:
    frames = CepstralFrames(voice(formants, seconds, seed)[None].numpy(), RATE)
    known = SpeakerProfile()
    known.add(frames.cepstra[0][frames.speech(frames.speech_threshold(frames.loud_level()))[0]])
    return known


def test_stretches_are_ordered_by_voice_whatever_comes_first() -> None:
    low, high = (500.0, 1100.0, 2400.0), (700.0, 1600.0, 3000.0)
    nobody = SpeakerProfile()
    stretches = [
        [profile(low, 3.0, 1), nobody],
        [nobody, nobody],
        [profile(high, 3.0, 2), nobody],
        [profile(high, 8.0, 3), profile(low, 8.0, 4)],
    ]
    found = order_stretches(stretches)
    assert found[0] == found[3][::-1]
    assert found[2] == found[3]
    assert order_stretches([]) == []
    assert order_stretches([[nobody, nobody]]) == [(0, 1)]


def test_a_profile_does_not_know_the_level() -> None:
    sound = voice((500.0,), 2.0, 1)[None].numpy()
    loud, quiet = (CepstralFrames(np.float32(gain) * sound, RATE) for gain in (1.0, 0.01))
    np.testing.assert_allclose(loud.cepstra, quiet.cepstra, rtol=1e-3, atol=1e-3)
    assert np.isfinite(CepstralFrames(np.zeros((2, 5), np.float32), RATE).cepstra).all()
