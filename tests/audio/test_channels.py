"""Channels are mixed without cancelling each other."""

from __future__ import annotations

import pytest
import torch

from polsess.audio import to_mono


def test_usual_channels_are_averaged() -> None:
    left, right = torch.randn(2, 8000)
    for samples in (torch.stack([left, right]), torch.stack([left, left]), torch.stack([left, 0 * left])):
        torch.testing.assert_close(to_mono(samples, "a"), samples.mean(0))
    assert torch.equal(to_mono(left[None], "a"), left)
    assert not to_mono(torch.zeros(2, 100), "a").any()


def test_an_inverted_channel_is_turned() -> None:
    sound = torch.randn(8000)
    for factor in (1.0, 0.8):
        with pytest.warns(
            UserWarning, match=r"talk\.wav: its channels cancel each other .* channel 1 are inverted"
        ):
            mono = to_mono(torch.stack([sound, -factor * sound]), "talk.wav")
        torch.testing.assert_close(mono, (1 + factor) / 2 * sound)
    with pytest.warns(UserWarning, match="cancel"):
        mono = to_mono(torch.stack([sound, -sound, sound, -sound]), "b")
    torch.testing.assert_close(mono, sound)
