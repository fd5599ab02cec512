"""Spectrograms show the right level at the right frequency."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from polsess.pictures import _spectrogram_columns, draw_spectrograms, draw_timeline, spectrogram_db
from polsess.timelines import Turn


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


def test_a_picture_ends_where_its_signals_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    matplotlib = pytest.importorskip("matplotlib.figure")
    tops: list[float] = []
    monkeypatch.setattr(
        matplotlib.Figure,
        "savefig",
        lambda figure, *_, **__: tops.extend(axes.get_ylim()[1] for axes in figure.axes[:2]),
    )
    signals = {"mixture": torch.randn(4000), "speaker1": torch.randn(4000)}
    for max_hz in (None, 4000.0, 30_000.0):
        draw_spectrograms(signals, 44_100, tmp_path / "a.png", max_hz=max_hz)
    assert tops == [22_050, 22_050, 4000, 4000, 22_050, 22_050]


@pytest.mark.parametrize("seconds", [0.001, 3.0, 700.0])
def test_a_timeline_of_any_length_is_drawn_block_by_block(tmp_path: Path, seconds: float) -> None:
    pytest.importorskip("matplotlib")
    length = max(1, round(seconds * 4000))
    talk = (Turn(0.0, seconds / 2, "a_$b$ \t" + 40 * "語"), Turn(seconds / 3, seconds, "<b>"))
    blocks = [each.numpy() for each in torch.randn(length).split(50_000)]
    speakers = [turn.speaker for turn in talk]
    draw_timeline(iter(blocks), 4000, length, talk, speakers, tmp_path / "a.png", title="$x")
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"


def test_columns_do_not_depend_on_the_blocks_and_leave_no_holes() -> None:
    samples = torch.randn(40_000)
    whole = _spectrogram_columns([samples.numpy()], 8000, len(samples), 100)
    parts = _spectrogram_columns([part.numpy() for part in samples.split(777)], 8000, len(samples), 100)
    assert whole.shape == (129, 100)
    torch.testing.assert_close(whole, parts)
    assert float(whole.min()) > -100
    tone = 0.1 * torch.sin(2 * torch.pi * 1000 * torch.arange(8000) / 8000)
    level = _spectrogram_columns([torch.cat([tone, 0 * tone]).numpy()], 8000, 16_000, 100)
    assert float(level[:, :48].max()) == pytest.approx(-20, abs=0.5)
    assert int(level[:, 20].argmax()) == 32
    assert float(level[:, 53:].max()) < -150
