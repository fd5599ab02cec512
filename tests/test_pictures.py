"""Spectrograms show the right level at the right frequency."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from polsess.pictures import draw_spectrograms, spectrogram_db


@pytest.mark.parametrize("rate", [8000, 44100])
def test_a_tone_is_where_and_as_loud_as_it_is(rate: int) -> None:
    tone = 0.1 * torch.sin(2 * torch.pi * 1000 * torch.arange(rate) / rate)
    level = spectrogram_db(tone, rate)
    middle = level[:, level.shape[1] // 2]
    peak = int(middle.argmax())
    assert peak * rate / 2 / (len(middle) - 1) == pytest.approx(1000, abs=20)
    assert float(middle.max()) == pytest.approx(-20, abs=1.5)


def test_long_sounds_stay_small_pictures() -> None:
    assert spectrogram_db(torch.zeros(8000 * 600), 8000).shape[1] < 3100


def test_a_picture_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    signals = {"mixture": torch.randn(4000), "speaker $1": torch.zeros(4000), "żółw 語": torch.randn(1)}
    draw_spectrograms(signals, 8000, tmp_path / "a.png", title="a_$b$ 🎤")
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    for bad in ({}, {"a": torch.zeros(2, 10)}, {"a": torch.zeros(0)}):
        with pytest.raises(ValueError, match="signals: expected"):
            draw_spectrograms(bad, 8000, tmp_path / "b.png")
    assert not (tmp_path / "b.png").exists()
