"""Sample rate conversion: the right signal without delay, whole or in blocks, never too short."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from polsess.audio import StreamResampler, resample, resampled_length

RATES = [1000, 8000, 11025, 16000, 22050, 44100, 48000, 192000]


@pytest.mark.parametrize(("source", "target"), [(8000, 16000), (44100, 8000), (48000, 16000), (8000, 44100)])
def test_a_tone_stays_that_tone(source: int, target: int) -> None:
    def tone(rate: int) -> torch.Tensor:
        return torch.sin(2 * torch.pi * 440 * torch.arange(rate, dtype=torch.float64) / rate).float()

    converted = resample(tone(source)[None], source, target)[0]
    middle = slice(target // 10, -target // 10)
    torch.testing.assert_close(converted[middle], tone(target)[middle], rtol=0, atol=1e-4)


@settings(max_examples=60, deadline=None)
@given(
    samples=st.integers(1, 5000),
    source=st.sampled_from(RATES),
    target=st.sampled_from(RATES),
    block=st.integers(1, 700),
)
def test_blocks_equal_the_whole(samples: int, source: int, target: int, block: int) -> None:
    sound = torch.randn(2, samples, generator=torch.Generator().manual_seed(samples))
    whole = resample(sound, source, target)
    assert whole.shape == (2, resampled_length(samples, source, target))
    stream = StreamResampler(source, target, 2)
    pieces = [
        stream.push(sound[:, start : start + block].numpy(), last=start + block >= samples)
        for start in range(0, samples, block)
    ]
    np.testing.assert_allclose(np.concatenate(pieces, 1), whole.numpy(), rtol=0, atol=1e-6)


def test_shapes_before_the_last_dimension_are_kept() -> None:
    assert resample(torch.zeros(2, 3, 80), 8000, 16000).shape == (2, 3, 160)
    sound = torch.randn(7)
    assert resample(sound, 8000, 8000) is sound
