"""Noise of 8 kHz goes on above 4 kHz."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import soundfile

from scripts.widen_noise_band import widen_band

SCRIPT = Path(__file__).parents[1] / "scripts" / "widen_noise_band.py"


def level(signal: np.ndarray, first: float, last: float) -> float:
    """In dB, between two frequencies in Hz at 16 kHz."""
    power = np.square(np.abs(np.fft.rfft(signal)))
    frequencies = np.fft.rfftfreq(len(signal), 1 / 16000)
    return float(10 * np.log10(power[(frequencies >= first) & (frequencies < last)].mean()))


def test_it_stays_as_it_is_below_and_goes_on_at_its_level() -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal(40000)
    wide = widen_band(noise)
    assert wide.shape == (80000,)
    below = np.repeat(noise, 2)  # the same numbers, at twice the rate
    assert abs(level(wide, 500, 1500) - level(below, 500, 1500)) < 1.0
    assert abs(level(wide, 4200, 5500) - level(wide, 2500, 3800)) < 1.0
    assert np.abs(widen_band(5 * noise)).max() <= 0.99
    assert not widen_band(np.zeros(1000)).any()


def test_a_folder(tmp_path: Path) -> None:
    def run() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(SCRIPT), str(tmp_path / "noise"), str(tmp_path / "wide")]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    missing = run()
    assert missing.returncode == 1
    assert "no sound files" in missing.stderr
    (tmp_path / "noise" / "rain").mkdir(parents=True)
    soundfile.write(
        tmp_path / "noise" / "rain" / "one.wav", 0.1 * np.random.default_rng(1).standard_normal(9000), 8000
    )
    assert run().returncode == 0
    written = soundfile.info(tmp_path / "wide" / "rain" / "one.flac")
    assert (written.samplerate, written.frames) == (16000, 18000)
    soundfile.write(tmp_path / "noise" / "two.wav", np.zeros((900, 2)), 8000)
    assert "two.wav: expected one channel" in run().stderr
