"""The sounds: equally loud, never clipped, anchors with the spectrum that they are named after."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from polsess.audio import integrated_loudness
from polsess.evaluation import SavedEvaluation
from polsess.listening import Anchor, Clips, Kind
from polsess.listening.clips import LOUDNESS_LUFS, Clip, Pcm, cut, level, low_pass
from polsess.signal_ratios import si_snr
from tests.listening.planted import RATE, SYSTEMS, small_test


def loudness(samples: Pcm) -> float:
    return integrated_loudness(torch.from_numpy(samples / 2.0**15).float(), RATE)


def share_above(samples: torch.Tensor, frequency_hz: float, rate: int) -> float:
    """Power above a frequency in dB re all."""
    power = torch.fft.rfft(samples.double() * torch.hann_window(len(samples))).abs().square()
    frequencies = torch.fft.rfftfreq(len(samples), 1 / rate)
    return float(10 * torch.log10(power[frequencies > frequency_hz].sum() / power.sum()))


def clip_of(mixture: torch.Tensor, reference: torch.Tensor, rate: int = RATE) -> Clip:
    return Clip("a", 0, mixture, reference, {"x": reference}, rate)


@pytest.mark.parametrize("kind", list(Kind))
def test_all_sounds_of_a_test_are_equally_loud_and_none_is_clipped(
    evaluations: list[SavedEvaluation], kind: Kind
) -> None:
    test = small_test(evaluations, kind=kind)
    for trial in test.trials:
        heard = [*trial.sounds.values(), *([] if trial.reference is None else [trial.reference])]
        levels = [loudness(samples) for samples in heard]
        assert max(levels) - min(levels) < 0.5
        assert all(np.abs(samples.astype(int)).max() < 0.9 * 2**15 for samples in heard)


def test_peaks_make_all_sounds_of_a_trial_quieter_alike() -> None:
    clicks = torch.zeros(RATE)
    clicks[::800] = 0.5  # loud peaks at little loudness
    tone = 0.3 * torch.sin(2 * math.pi * 440 * torch.arange(RATE) / RATE)
    found = level({"clicks": clicks, "tone": tone}, RATE)
    assert np.abs(found["clicks"]).max() == pytest.approx(2**15 * 10 ** (-1 / 20), rel=0.01)
    assert loudness(found["clicks"]) == pytest.approx(loudness(found["tone"]), abs=0.2)
    assert loudness(found["tone"]) < LOUDNESS_LUFS - 1
    assert loudness(level({"tone": tone}, RATE)["tone"]) == pytest.approx(LOUDNESS_LUFS, abs=0.2)


def test_silence_stays_silent_and_ends_fade() -> None:
    found = level({"silence": torch.zeros(RATE), "noise": torch.randn(RATE)}, RATE)
    assert not found["silence"].any()
    assert found["noise"][0] == found["noise"][-1] == 0


@pytest.mark.parametrize(
    ("anchor", "rate", "cutoff_hz"),
    [
        (Anchor.LOW, 8000, 1000),
        (Anchor.MID, 8000, 2000),
        (Anchor.LOW, 16000, 2000),
        (Anchor.MID, 16000, 4000),
        (Anchor.LOW, 48000, 3500),
        (Anchor.MID, 48000, 7000),
    ],
)
def test_low_pass_anchors_end_where_they_should(anchor: Anchor, rate: int, cutoff_hz: float) -> None:
    noise = torch.randn(2 * rate)
    made = anchor.make(clip_of(noise, noise, rate))
    assert anchor.cutoff_hz(rate) == cutoff_hz
    assert made.shape == noise.shape
    assert share_above(made, 1.14 * cutoff_hz, rate) < -45
    lower = 0.85 * cutoff_hz
    inside = slice(rate // 4, -rate // 4)  # the ends differ: a filter rings on beyond them
    kept, whole = (low_pass(samples, lower, rate)[inside] for samples in (made, noise))
    assert float((kept - whole).abs().max() / whole.abs().max()) < 0.01  # the pass band is untouched


def test_anchors_from_the_mixture() -> None:
    reference, other = torch.randn(2, RATE)
    clip = clip_of(reference + other, reference)
    assert Anchor.MIXTURE.make(clip) is clip.mixture
    torch.testing.assert_close(Anchor.HALFWAY.make(clip), reference + 10**-0.5 * other)


def test_a_long_clip_is_cut_to_where_the_target_speaks() -> None:
    reference = torch.cat([torch.zeros(3 * RATE), torch.ones(RATE), torch.zeros(2 * RATE)])
    found = cut(clip_of(torch.arange(6.0 * RATE), reference), 1.0)
    assert found.reference.all()
    assert found.mixture[0] == 3 * RATE
    short = clip_of(reference, reference)
    assert cut(short, 6.0) is short


def test_estimates_stand_in_the_order_of_the_references(evaluations: list[SavedEvaluation]) -> None:
    clips = list(Clips(evaluations).draw(0))
    assert len(clips) == 5  # three utterances of two targets, one is for training
    assert len({(clip.item, clip.source) for clip in clips}) == 5
    assert not any(clip.item == clips[0].item for clip in clips[1:])
    for clip in clips:
        for name in SYSTEMS:
            assert float(si_snr(clip.estimates[name], clip.reference)) > 0
