"""Continue noise that was recorded at 8 kHz above 4 kHz, for training and tests of enhancers at 16 kHz.

    python scripts/widen_noise_band.py esc10/audio wide

Above half of its rate each recording goes on as itself at twice the speed, which lies there, at the level at
which it ends. Every sound file of the folder and its sub-folders is written to the same place in the new one,
as FLAC of 16 bits at twice the rate.

Shapes: T samples.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray
from scipy.signal import firwin, oaconvolve, resample_poly

_TAPS = 255
_BANDS = (0.825, 0.95), (1.025, 1.15)
"""Whose levels are made equal, relative to where the recording ends: the last below and the first above."""
_MOST = 4.0
"""Largest gain of what lies above."""
_PEAK = 0.99
_ENDINGS = {".flac", ".wav", ".ogg"}


def widen_band(noise: NDArray[np.float64]) -> NDArray[np.float64]:
    """Double the rate of a recording and continue it above the band that it has.

    Args:
        noise: ``[T]``.

    Returns:
        ``[2 T]``, at most 0.99 large.
    """
    lower = oaconvolve(resample_poly(noise, 2, 1), firwin(_TAPS, 0.5), mode="same")
    fast = np.concatenate([noise, noise[::-1]])  # its samples at twice the rate, there and back
    upper = oaconvolve(fast, firwin(_TAPS, 0.5, pass_zero=False), mode="same")
    gain = np.sqrt(_power(lower, *_BANDS[0]) / _power(upper, *_BANDS[1]))
    wide = lower + min(gain, _MOST) * upper
    return np.asarray(wide * min(1.0, _PEAK / max(np.abs(wide).max(), 1e-9)))


def _power(signal: NDArray[np.float64], first: float, last: float) -> float:
    """Mean power between two frequencies, relative to a quarter of the rate."""
    spectrum = np.square(np.abs(np.fft.rfft(signal * np.hanning(len(signal)))))
    frequencies = np.fft.rfftfreq(len(signal), 0.25)
    inside = (frequencies >= first) & (frequencies < last)
    return float(spectrum[inside].mean()) + 1e-20


def main() -> None:
    """Widen all files of a folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="sound files with one channel")
    parser.add_argument("out", type=Path, help="folder that receives the new ones")
    options = parser.parse_args()
    files = sorted(path for path in options.folder.rglob("*") if path.suffix.lower() in _ENDINGS)
    if not files:
        sys.exit(f"error: {options.folder}: no sound files ({', '.join(sorted(_ENDINGS))}).")
    for number, path in enumerate(files, 1):
        noise, rate = soundfile.read(path)
        if noise.ndim != 1 or len(noise) < _TAPS:
            sys.exit(f"error: {path}: expected one channel of at least {_TAPS} samples, got {noise.shape}.")
        target = (options.out / path.relative_to(options.folder)).with_suffix(".flac")
        target.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(target, widen_band(noise), 2 * rate, subtype="PCM_16")
        if number % 100 == 0 or number == len(files):
            print(f"{number} of {len(files)} files", flush=True)


if __name__ == "__main__":
    main()
