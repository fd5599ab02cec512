"""Loudness follows ITU-R BS.1770: calibration, gates, and the same result at every sample rate."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from polsess.audio import integrated_loudness, read_audio, resample
from polsess.audio.loudness import _HIGH_PASS, _SHELF, k_weighted
from polsess.data.mini import MIXTURES


def sine(frequency: float, rate: int, seconds: float = 2.0, level_db: float = 0.0) -> Tensor:
    time = torch.arange(round(seconds * rate), dtype=torch.float64) / rate
    return (10 ** (level_db / 20) * torch.sin(2 * math.pi * frequency * time)).float()


@pytest.mark.parametrize("rate", [8000, 16000, 44100, 48000, 96000])
def test_the_calibration_tone_of_the_standard(rate: int) -> None:
    assert integrated_loudness(sine(997, rate), rate) == pytest.approx(-3.01, abs=0.01)
    assert integrated_loudness(sine(997, rate, level_db=-20), rate) == pytest.approx(-23.01, abs=0.01)


@pytest.mark.parametrize("frequency", [40, 100, 3000])
def test_the_weighting_is_the_standard_s_at_8_khz_too(frequency: float) -> None:
    at_48 = integrated_loudness(sine(frequency, 48000, 4), 48000)
    assert integrated_loudness(sine(frequency, 8000, 4), 8000) == pytest.approx(at_48, abs=0.02)


def test_the_weighting_equals_its_filters_in_the_time_domain() -> None:
    signal = pytest.importorskip("scipy.signal")
    noise = expected = np.random.default_rng(0).standard_normal(24000)
    for over, under in (_SHELF, _HIGH_PASS):
        expected = signal.lfilter(over, under, expected)
    np.testing.assert_allclose(k_weighted(noise, 48000), expected, rtol=0, atol=1e-6)


def test_speech_is_as_loud_at_8_khz_as_resampled_to_48() -> None:
    speech, rate = read_audio(MIXTURES / "8k" / "different_sex" / "s1.flac")
    finer = resample(speech, rate, 48000)[0]
    expected = integrated_loudness(finer, 48000)
    assert integrated_loudness(speech[0], rate) == pytest.approx(expected, abs=0.1)


def test_pauses_and_quiet_parts_do_not_count() -> None:
    loud, pause = sine(997, 8000, 4, -20), torch.zeros(32000)
    assert integrated_loudness(torch.cat([loud, pause]), 8000) == pytest.approx(-23.1, abs=0.2)
    quiet = sine(997, 8000, 4, -35)
    assert integrated_loudness(torch.cat([loud, quiet]), 8000) == pytest.approx(-23.1, abs=0.2)
    near = sine(997, 8000, 4, -26)  # within 10 dB: counts
    assert integrated_loudness(torch.cat([loud, near]), 8000) == pytest.approx(-25.1, abs=0.1)


def test_silence_has_no_loudness_and_short_sounds_have_one() -> None:
    assert integrated_loudness(torch.zeros(8000), 8000) == -math.inf
    assert integrated_loudness(sine(997, 8000, level_db=-80), 8000) == -math.inf
    assert integrated_loudness(sine(997, 8000, 0.2), 8000) == pytest.approx(-3.0, abs=0.2)
